package identity

import (
	"fmt"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("n", 63)
	private := Subject{Kind: KindProfile, Name: "alice", Domain: "d-examplealice1", Space: "alice-space", App: "default"}
	tests := []struct {
		template string
		subject  Subject
		want     string
	}{
		{"{name}", Subject{Kind: KindNotebook, Name: "alice-nb"}, "alice-nb"},
		{"{name}", private, "alice"},
		{"{name}", Subject{Name: "x"}, "nb_x"},
		{"{name}", Subject{Name: "nb-x"}, "nb-x"},
		{"{name}", Subject{Name: "xy"}, "xy"},
		{"{name}", Subject{Name: longest}, longest},
		{"{kind}={name}", Subject{Kind: KindSharedSpace, Name: "team-space"}, "space=team-space"},
		{"{kind}={name}", Subject{Kind: KindNotebook, Name: "x"}, "notebook=x"},
		{"{name}@{space}", private, "alice@alice-space"},
		{"{name}@{space}", Subject{Kind: KindNotebook, Name: "alice-nb"}, "alice-nb@"},
		{"{name}-at_{domain}", private, "alice-at_d-examplealice1"},
		{"nb-{name}", Subject{Name: "x"}, "nb-x"},
		{"{domain},{name},{app}", private, "d-examplealice1,alice,default"},
		{"n-{name}", Subject{Name: longest}, "n-" + longest[:45] + "_f5317867e02059de"},
	}
	for _, tt := range tests {
		template, err := ParseTemplate(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.Format(tt.subject)
		if err != nil || got != tt.want {
			t.Errorf("%s of %+v: got %q, %v; want %q", template, tt.subject, got, err, tt.want)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		template string
		subject  Subject
	}{
		{"{name}", Subject{}},
		{"{name}", Subject{Name: "a_b"}},
		{"{name}", Subject{Name: "a\n"}},
		{"{name}", Subject{Name: strings.Repeat("a", 64)}},
		{"{kind}_{name}", Subject{Name: "alice"}},
		{"{kind}_{name}", Subject{Name: "alice", Kind: "root"}},
		{"{domain}_{name}", Subject{Name: "alice", Domain: "examplealice1"}},
		{"{space}_{name}", Subject{Name: "alice", Space: "-"}},
		{"{app}_{name}", Subject{Name: "alice", App: "a b"}},
	} {
		template, err := ParseTemplate(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := template.Format(tt.subject); err == nil {
			t.Errorf("%s of %+v: got %q, want an error", template, tt.subject, got)
		}
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"":                                 "expected the placeholder {name}",
		"SageMaker":                        "expected the placeholder {name}",
		"{Name}":                           "unknown placeholder {Name}: expected {name}, {kind}, {domain}, {space}, {app}",
		"{}_{name}":                        "unknown placeholder {}",
		"{name":                            `"{name" is outside`,
		"{name}}":                          `"}" is outside`,
		"{name}{space}":                    "expected one of _ + = , . @ before {space}",
		"{name}-{space}":                   "expected one of _ + = , . @ before {space}",
		"{name}_{name}":                    "{name} occurs twice",
		"a b{name}":                        `"a b" is outside`,
		"{name}:{space}":                   "expected one of _ + = , . @ before {space}",
		"{name}_é":                         `"_é" is outside`,
		"{name}\n":                         `"\n" is outside`,
		strings.Repeat("a", 33) + "{name}": "33 characters of literal text",
	} {
		if _, err := ParseTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTemplate(%q): got error %v, want %q in it", template, err, want)
		}
	}
}

func TestParseIsInverse(t *testing.T) {
	t.Parallel()
	names := []string{"x", "y", "xy", "nb-x", "nbx", "a", "b-a", "a--b", "0", strings.Repeat("n", 62), strings.Repeat("n", 63)}
	others := []string{"", "x", "b", "a", "deadbeefdeadbeef"}
	for _, source := range []string{
		"{name}", "nb_{name}", "{name}_{space}", "{name}a_b{space}", "{kind}={name}", "{app}.{name}.{space}", "x{name}x",
	} {
		template, err := ParseTemplate(source)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]Subject)
		for _, kind := range []Kind{KindNotebook, KindProfile, KindSharedSpace} {
			for _, name := range names {
				for _, space := range others {
					for _, app := range others {
						s := project(template, Subject{Kind: kind, Name: name, Space: space, App: app})
						checkRoundTrip(t, template, s)
						text, _ := template.Format(s)
						if twin, ok := seen[text]; ok && twin != s {
							t.Fatalf("%s: %+v and %+v are both %q", source, twin, s, text)
						}
						seen[text] = s
					}
				}
			}
		}
	}
}

func TestParseForeignNames(t *testing.T) {
	t.Parallel()
	byKind, err := ParseTemplate("{kind}_{name}")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		template Template
		name     string
	}{
		{Template{}, ""}, {Template{}, "x"}, {Template{}, "nb_xy"}, {Template{}, "nb_"}, {Template{}, "nb__"}, {Template{}, "a-"},
		{Template{}, "botocore_1"}, {Template{}, strings.Repeat("a", 64)}, {Template{}, "alice\n"},
		{byKind, "alice"}, {byKind, "root_alice"}, {byKind, "space_"}, {byKind, "space_a_b"}, {byKind, "nb_x"},
		{byKind, strings.Repeat("a", 47) + "_0123456789abcdef"},
	} {
		if s, ok := tt.template.Parse(tt.name); ok {
			t.Errorf("%s: Parse(%q) = %+v, want none", tt.template, tt.name, s)
		}
	}
	if s, ok := byKind.Parse("space_team"); !ok || s != (Subject{Kind: KindSharedSpace, Name: "team"}) {
		t.Errorf("Parse(space_team) = %+v, %v", s, ok)
	}
}

// A user who may choose a space's name must not be able to write what the
// shortened name of somebody else is.
func TestShortenedCannotBeWritten(t *testing.T) {
	t.Parallel()
	template, err := ParseTemplate("{name}_{space}")
	if err != nil {
		t.Fatal(err)
	}
	victim := Subject{Name: strings.Repeat("v", 47), Space: strings.Repeat("s", 40)}
	name, err := template.Format(victim)
	if err != nil {
		t.Fatal(err)
	}
	forger := Subject{Name: name[:47], Space: name[48:]}
	forged, err := template.Format(forger)
	if err != nil {
		t.Fatal(err)
	}
	if forged == name || !shortened(forged) {
		t.Errorf("victim %q, forger %q", name, forged)
	}
	near := Subject{Name: strings.Repeat("v", 47), Space: strings.Repeat("s", 39) + "t"}
	if other, err := template.Format(near); err != nil || other == name || other[:47] != name[:47] {
		t.Errorf("neighbours: %q and %q, %v", name, other, err)
	}
}

func TestCheckSourceIdentity(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"ab", "a@b.c", "aws", strings.Repeat("a", 64), "_+=,.@-"} {
		if err := CheckSourceIdentity(s); err != nil {
			t.Error(err)
		}
		if err := CheckSessionName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "a", "aws:x", "AWS:x", "a b", "a:b", "é1", "ab\n", strings.Repeat("a", 65)} {
		if CheckSourceIdentity(s) == nil {
			t.Errorf("CheckSourceIdentity(%q): no error", s)
		}
		if CheckSessionName(s) == nil {
			t.Errorf("CheckSessionName(%q): no error", s)
		}
	}
}

// project clears the fields that the template does not use.
func project(t Template, s Subject) Subject {
	var out Subject
	for _, p := range t.orPlainName().parts {
		if p.field != "" {
			*out.field(p.field) = *s.field(p.field)
		}
	}
	return out
}

func checkRoundTrip(t *testing.T, template Template, s Subject) {
	t.Helper()
	text, err := template.Format(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSessionName(text); err != nil {
		t.Fatalf("%s of %+v: %v", template, s, err)
	}
	if err := CheckSourceIdentity(text); err != nil {
		t.Fatalf("%s of %+v: %v", template, s, err)
	}
	got, ok := template.Parse(text)
	if shortened(text) {
		if ok {
			t.Fatalf("%s: Parse of the shortened %q gave %+v", template, text, got)
		}
		return
	}
	if want := project(template, s); !ok || got != want {
		t.Fatalf("%s: %+v was written %q and read back %+v, %v", template, s, text, got, ok)
	}
}

func FuzzSessionName(f *testing.F) {
	f.Add("{name}", "x", "y", "", "", "", "nb_x")
	f.Add("{name}_{space}", "alice", "bob", "d-a", "alice-space", "default", "alice_alice-space")
	f.Add("{kind}={name}@{domain}", "alice", "alic", "d-0a1b2c3d4e5f", "s", "a", "profile=alice@d-a")
	f.Add("{name}a_b{app}", strings.Repeat("n", 63), "a", "", "", strings.Repeat("z", 63), "aa_bb")
	f.Fuzz(func(t *testing.T, source, name, otherName, domain, space, app, foreign string) {
		template, err := ParseTemplate(source)
		if err != nil {
			return
		}
		one := Subject{Kind: KindProfile, Name: name, Domain: domain, Space: space, App: app}
		two := Subject{Kind: KindProfile, Name: otherName, Domain: domain, Space: app, App: space}
		texts := make(map[string]Subject)
		for _, s := range []Subject{one, two} {
			text, err := template.Format(s)
			if err != nil {
				continue
			}
			checkRoundTrip(t, template, s)
			if twin, ok := texts[text]; ok && project(template, twin) != project(template, s) {
				t.Fatalf("%s: %+v and %+v are both %q", template, twin, s, text)
			}
			texts[text] = s
		}
		if s, ok := template.Parse(foreign); ok {
			if text, err := template.Format(s); err != nil || text != foreign {
				t.Fatalf("%s: %q was read as %+v, which is written %q, %v", template, foreign, s, text, err)
			}
		}
	})
}

func ExampleTemplate() {
	template, _ := ParseTemplate("{kind}={name}")
	name, _ := template.Format(Subject{Kind: KindProfile, Name: "alice"})
	subject, _ := template.Parse(name)
	fmt.Println(name, subject.Kind, subject.Name)
	// Output: profile=alice profile alice
}
