package ordered_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

func TestYAMLBlocks(t *testing.T) {
	for _, text := range []string{
		"#!/bin/sh\n  indented\n\nend\n", "a\nb\n", "…\n\"'\n", // blocks
		"a\nb", "a\n\n", " a\nb\n", "a \nb\n", "a\tb\nc\n", "a\r\nb\n", "\na\n", "a\n\ufeff\n", "a\n---\n", "\n\n", "a\u0085b\nc\n", // not all
	} {
		out, err := ordered.YAML(ordered.Object{{Name: "x", Value: ordered.Object{{Name: "text", Value: text}}}})
		if err != nil {
			t.Fatal(err)
		}
		var back struct{ X struct{ Text string } }
		if err := yaml.Unmarshal(out, &back); err != nil || back.X.Text != text {
			t.Errorf("%q became %q (%v) by\n%s", text, back.X.Text, err, out)
		}
		if text == "#!/bin/sh\n  indented\n\nend\n" && !strings.Contains(string(out), "text: |\n    #!/bin/sh\n") {
			t.Errorf("a script is not readable:\n%s", out)
		}
	}
}
