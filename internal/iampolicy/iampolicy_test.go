package iampolicy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const account = "111122223333"

// layouts are options of every mode, with their variants.
func layouts() map[string]Options {
	role := []string{"/service-role/ExecRole"}
	return map[string]Options{
		"self":              {Mode: Self, Account: account, Roles: role, Names: []string{"alice-nb", "bob-nb"}},
		"self, one name":    {Mode: Self, Account: account, Roles: role, Names: []string{"alice-nb"}},
		"self, patterns":    {Mode: Self, Account: account, Roles: role, JobRoles: []string{"/jobs/J"}, Names: []string{"team-*", "x?z"}},
		"self, any name":    {Mode: Self, Account: account, Roles: role, Names: []string{"*"}},
		"self, deny":        {Mode: Self, Account: account, Roles: role, Names: []string{"alice-nb"}, DenyUnattributed: true, Package: "bucket"},
		"per-notebook":      {Mode: PerNotebook, Account: account, JobRoles: []string{"J"}, Names: []string{"alice-nb", "bob-nb"}},
		"per-notebook, one": {Mode: PerNotebook, Account: account, Names: []string{"alice-nb"}, DenyUnattributed: true},
		"launcher":          {Mode: Launcher, Account: account, Names: []string{"alice-nb", "bob-nb"}},
		"launcher, one":     {Mode: Launcher, Account: account, Names: []string{"alice-nb"}, WorkRole: "/work/W", TagKey: "Owner:x", JobRoles: []string{"J"}, Package: "bucket/x"},
		"studio-propagation": {Mode: StudioPropagation, Account: account, DomainID: "d-exampledomain",
			Roles: []string{"/service-role/ExecRole", "Other"}, JobRoles: []string{"J", "Other"}},
		"per-profile":             {Mode: PerProfile, Account: account, Roles: role, Names: []string{"alice", "bob"}},
		"per-profile, propagated": {Mode: PerProfile, Account: account, Roles: role, Names: []string{"alice", "bob"}, Propagated: true, JobRoles: []string{"J"}},
	}
}

func mustGenerate(t testing.TB, o Options) *Set {
	t.Helper()
	s, err := Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var partitions = map[string]string{"aws": "eu-west-1", "aws-cn": "cn-northwest-1", "aws-us-gov": "us-gov-east-1", "aws-eusc": "eusc-de-east-1",
	"aws-iso": "us-iso-east-1", "aws-iso-b": "us-isob-east-1", "aws-iso-e": "eu-isoe-west-1", "aws-iso-f": "us-isof-south-1"}

func TestEveryPartition(t *testing.T) {
	for partition, region := range partitions {
		for name, o := range layouts() {
			o.Region = region // and the partition follows
			s := mustGenerate(t, o)
			for _, r := range s.Roles {
				text, err := ordered.JSON(ordered.List{r.Trust, inline(r)})
				if err != nil {
					t.Fatal(err)
				}
				for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '"' }) {
					if strings.HasPrefix(word, "arn:") && !strings.HasPrefix(word, "arn:"+partition+":") {
						t.Errorf("%s in %s: %s", name, partition, word)
					}
				}
				if !strings.HasPrefix(r.ARN, "arn:"+partition+":iam::"+account+":role/") {
					t.Errorf("%s in %s: role %s", name, partition, r.ARN)
				}
			}
		}
	}
}

func inline(r Role) ordered.List {
	var l ordered.List
	for _, p := range r.Inline {
		l = append(l, p.Document)
	}
	return l
}

// TestJobRoles: every role that SageMaker may be given for a job lets it set a
// source identity.
func TestJobRoles(t *testing.T) {
	for name, o := range layouts() {
		s := mustGenerate(t, o)
		for _, r := range s.Roles {
			text, err := ordered.JSON(r.Trust)
			if err != nil {
				t.Fatal(err)
			}
			launcher := o.Mode == Launcher && !strings.HasSuffix(r.Name, "-jobs") && r.Name != "J"
			if !launcher && !strings.Contains(string(text), `"Service": "sagemaker.amazonaws.com"
      },
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ]`) {
				t.Errorf("%s: role %s:\n%s", name, r.Name, text)
			}
		}
		if notes := strings.Join(s.Notes, "\n"); !strings.Contains(notes, "PropagateSourceIdentity") || !strings.Contains(notes, "job roles") {
			t.Errorf("%s: downstream roles are not named", name)
		}
	}
}

// TestTablesAreHonest: which abuses stay possible, in each layout.
func TestTablesAreHonest(t *testing.T) {
	want := map[string]string{
		"self":                    "takes another name; works without",
		"self, one name":          "works without",
		"self, patterns":          "takes another name; works without",
		"self, any name":          "takes another name; any name it likes; works without",
		"self, deny":              "",
		"per-notebook":            "works without",
		"per-notebook, one":       "",
		"launcher":                "",
		"launcher, one":           "",
		"studio-propagation":      "",
		"per-profile":             "role and name of another profile; opens the Studio of another; works without",
		"per-profile, propagated": "works without",
	}
	for name, o := range layouts() {
		var possible []string
		denied := 0
		for _, r := range mustGenerate(t, o).Rows {
			switch {
			case r.Kind == proof.Abuse && r.Result == proof.Possible:
				possible = append(possible, r.What)
				if r.Note == "" {
					t.Errorf("%s: %q is possible, and nothing says why", name, r.What)
				}
			case r.Kind == proof.Abuse:
				denied++
			}
		}
		wanted := strings.FieldsFunc(want[name], func(r rune) bool { return r == ';' })
		if len(possible) != len(wanted) || denied < 8 {
			t.Errorf("%s: possible: %q, want like %q; %d abuses denied", name, possible, wanted, denied)
			continue
		}
		for i, w := range wanted {
			if !strings.Contains(possible[i], strings.TrimSpace(w)) {
				t.Errorf("%s: possible: %q, want like %q", name, possible[i], w)
			}
		}
	}
}

// TestProofFindsDamage takes each condition out of each trust policy, and expects the proof to notice: a document with a needless condition
// or a table with a missing abuse fails here.
func TestProofFindsDamage(t *testing.T) {
	// Conditions that say in clear words what a policy variable without a value
	// does as well, the pattern that every name matches, and what STS itself
	// demands of a session that has a source identity.
	spared := func(o Options, c iameval.Condition) bool {
		return c.Key == "sts:SourceIdentity" && (o.Mode == StudioPropagation || o.Propagated) ||
			c.Operator == "Null" && (strings.HasPrefix(c.Key, "aws:PrincipalTag/") || c.Key == "aws:SourceIdentity" && c.Values[0] == "false") ||
			c.Operator == "StringLike" && c.Values[0] == "*"
	}
	for name, o := range layouts() {
		s := mustGenerate(t, o)
		for _, r := range s.Roles {
			original := s.world[r.Name]
			for _, statement := range original.Trust.Document.Statements {
				for _, c := range statement.Conditions {
					if spared(o, c) || perNameTwin(r) {
						continue
					}
					damaged := original
					damaged.Trust.Document.Statements = slices.Clone(original.Trust.Document.Statements)
					for i, s := range damaged.Trust.Document.Statements { // the set statement repeats it
						damaged.Trust.Document.Statements[i].Conditions = slices.DeleteFunc(slices.Clone(s.Conditions),
							func(other iameval.Condition) bool { return other.Operator == c.Operator && other.Key == c.Key })
					}
					s.world[r.Name] = damaged
					if _, err := s.world.Run(s.cases); err == nil {
						t.Errorf("%s: role %s: %s without %s %s: nobody notices", name, r.Name, statement.Name(), c.Operator, c.Key)
					}
				}
			}
			s.world[r.Name] = original
		}
	}
}

// TestProofFindsMissingStatements does the same with whole statements, of trust
// and identity policies.
func TestProofFindsMissingStatements(t *testing.T) {
	without := func(all []iameval.Statement, i int) []iameval.Statement {
		return append(append([]iameval.Statement{}, all[:i]...), all[i+1:]...)
	}
	for name, o := range layouts() {
		s := mustGenerate(t, o)
		for _, r := range s.Roles {
			original := s.world[r.Name]
			for i, statement := range original.Trust.Document.Statements {
				damaged := original
				damaged.Trust.Document.Statements = without(original.Trust.Document.Statements, i)
				s.world[r.Name] = damaged
				if _, err := s.world.Run(s.cases); err == nil && !perNameTwin(r) {
					t.Errorf("%s: role %s without %s: nobody notices", name, r.Name, statement.Name())
				}
			}
			for p, policy := range original.Policies {
				for i, statement := range policy.Document.Statements {
					if statement.Effect == iameval.Allow && original.Works || perNameTwin(r) || statement.Sid == "DenyProfilesToUnnamed" {
						continue // AdministratorAccess covers it; twins are alike; in clear words what a variable without a value does
					}
					damaged := original
					damaged.Policies = append([]iameval.Policy{}, original.Policies...)
					damaged.Policies[p].Document.Statements = without(policy.Document.Statements, i)
					s.world[r.Name] = damaged
					if twin, found := s.world["untagged"]; found && strings.HasSuffix(r.Name, "Role_alice") { // the same role in another state
						twin.Policies = damaged.Policies
						s.world["untagged"] = twin
					}
					if _, err := s.world.Run(s.cases); err == nil {
						t.Errorf("%s: role %s: policy %s without %s: nobody notices", name, r.Name, policy.Name, statement.Name())
					}
				}
			}
			s.world[r.Name] = original
		}
	}
}

// perNameTwin reports whether r is the role of a name after the first, whose
// documents differ from the first's in the name alone.
func perNameTwin(r Role) bool {
	for _, suffix := range []string{"-bob-nb", "_bob"} {
		if strings.HasSuffix(r.Name, suffix) {
			return true
		}
	}
	return false
}

// TestAllowedWithoutAdministrator: the intended calls need nothing but the
// documents.
func TestAllowedWithoutAdministrator(t *testing.T) {
	for name, o := range layouts() {
		s := mustGenerate(t, o)
		for label, r := range s.world {
			r.Works = false
			s.world[label] = r
		}
		for _, c := range s.cases {
			if c.Kind != proof.Intended || c.Want != proof.Allowed {
				continue
			}
			for _, try := range c.Try {
				if try.Action != "" || try.Service != "" {
					continue
				}
				if _, err := s.world.Run([]proof.Case{{What: c.What, Want: proof.Allowed, Try: []proof.Try{try}}}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("notebook-%03d", i)
	}
	return names
}

func TestTooManyNames(t *testing.T) {
	o := Options{Mode: Self, Account: account, Roles: []string{"/service-role/ExecRole"}, Names: manyNames(200)}
	_, err := Generate(o)
	if err == nil {
		t.Fatal("200 names fit")
	}
	var fit, fitRaised int
	text := err.Error()
	if _, scan := fmt.Sscanf(text[strings.Index(text, "the first "):], "the first %d names fit; %d fit when", &fit, &fitRaised); scan != nil {
		t.Fatalf("%v: %v", scan, err)
	}
	if !strings.Contains(text, "use mode launcher") || !strings.Contains(text, "200 names") {
		t.Errorf("no remedy: %v", err)
	}
	for _, test := range []struct{ limit, fit int }{{2048, fit}, {4096, fitRaised}} {
		o.TrustLimit = test.limit
		o.Names = manyNames(test.fit)
		if s := mustGenerate(t, o); size(s.Roles[0].Trust) > test.limit {
			t.Errorf("%d characters, limit %d", size(s.Roles[0].Trust), test.limit)
		}
		o.Names = manyNames(test.fit + 1)
		if _, err := Generate(o); err == nil {
			t.Errorf("%d names fit into %d too", test.fit+1, test.limit)
		}
	}
	t.Logf("names of 12 characters: %d fit into 2048, %d into 4096", fit, fitRaised)
	o.Mode, o.Roles, o.TrustLimit, o.Names = Launcher, nil, 0, manyNames(200)
	mustGenerate(t, o)
}

func TestOtherSizes(t *testing.T) {
	jobs := make([]string, 200)
	for i := range jobs {
		jobs[i] = fmt.Sprintf("/a/rather/long/path/JobRoleNumber%d", i)
	}
	for o, want := range map[*Options]string{
		{Mode: PerNotebook, Account: account, Names: []string{"alice-nb"}, JobRoles: jobs}:                                    "inline policies of role nb-alice-nb",
		{Mode: PerProfile, Account: account, Roles: []string{"X"}, Names: []string{"alice"}, JobRoles: jobs}:                  "managed policy nbidentity-profile-X",
		{Mode: PerProfile, Account: account, Names: []string{"a-nb"}, Roles: []string{"/" + strings.Repeat("p", 510) + "/X"}}: "trust policy of role SageMakerStudioExecutionRole_a-nb",
	} {
		if _, err := Generate(*o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	ok := Options{Mode: Self, Account: account, Roles: []string{"ExecRole"}, Names: []string{"alice-nb"}}
	launcher := Options{Mode: Launcher, Account: account, Names: []string{"alice-nb"}}
	profile := Options{Mode: PerProfile, Account: account, Roles: []string{"X"}, Names: []string{"alice"}}
	studio := Options{Mode: StudioPropagation, Account: account, Roles: []string{"X"}, DomainID: "d-x1"}
	template := func(s string) identity.Template {
		tmpl, err := identity.ParseTemplate(s)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	tests := []struct {
		base   Options
		change func(o *Options)
		want   string
	}{
		{ok, func(o *Options) { o.Mode = "best" }, `no mode "best"`},
		{ok, func(o *Options) { o.Account = "" }, "account is missing"},
		{ok, func(o *Options) { o.Account = "1111" }, "12 digits"},
		{ok, func(o *Options) { o.Partition = "aws;rm" }, "not a partition"},
		{ok, func(o *Options) { o.Roles = nil }, "one execution role"},
		{ok, func(o *Options) { o.Roles = []string{"a", "b"} }, "one execution role"},
		{ok, func(o *Options) { o.Roles = []string{"a'b"} }, "not a role"},
		{ok, func(o *Options) { o.Roles = []string{"/a b/c"} }, "not a role"},
		{ok, func(o *Options) { o.Roles = []string{"/a*/c"} }, "not a role"},
		{ok, func(o *Options) { o.Roles = []string{"arn:aws:sts::111122223333:assumed-role/X/y"} }, "role"},
		{ok, func(o *Options) { o.Roles = []string{"arn:aws:iam::999999999999:role/X"} }, "belongs to 999999999999, not to 111122223333"},
		{ok, func(o *Options) { o.JobRoles = []string{"arn:aws-cn:iam::111122223333:role/X"}; o.Region = "us-east-1" }, "region us-east-1 belongs to aws, not to aws-cn"},
		{ok, func(o *Options) { o.Region = "cn-north-1"; o.Partition = "aws" }, "belongs to aws-cn"},
		{ok, func(o *Options) { o.Region = "Earth" }, "not a region"},
		{ok, func(o *Options) { o.Names = nil }, "needs the names"},
		{ok, func(o *Options) { o.Names = []string{"alice_nb"} }, "alice_nb"},
		{ok, func(o *Options) { o.Names = []string{"${aws:username}"} }, "name"},
		{ok, func(o *Options) { o.Names = []string{"a*${x}"} }, "not a pattern"},
		{ok, func(o *Options) { o.Names = []string{"?"} }, "matches no session name"},
		{ok, func(o *Options) { o.Names = []string{"a-nb", "a-nb"} }, "given twice"},
		{ok, func(o *Options) { o.Names = []string{"SageMaker"} }, "could not be told"},
		{ok, func(o *Options) { o.Template = template("{name}@{app}") }, "differs from session to session"},
		{ok, func(o *Options) { o.Template = template("{name}@{domain}"); o.Kind = identity.KindProfile }, "give the domain's id"},
		{ok, func(o *Options) { o.TrustLimit = 5000 }, "trust limit 5000"},
		{ok, func(o *Options) { o.Package = "Bucket/../x y" }, "not a bucket"},
		{ok, func(o *Options) { o.Propagated = true }, "propagated is for mode per-profile"},
		{ok, func(o *Options) { o.WorkRole = "W" }, "for mode launcher"},
		{ok, func(o *Options) { o.RolePrefix = "x" }, "makes no roles"},
		{launcher, func(o *Options) { o.Roles = []string{"X"} }, "cannot be named"},
		{launcher, func(o *Options) { o.Names = []string{"a-*"} }, "takes no patterns"},
		{launcher, func(o *Options) { o.Names = []string{"a-nb", "A-nb"} }, "differ only in capitals"},
		{launcher, func(o *Options) { o.RolePath = "/" }, "a path of their own"},
		{launcher, func(o *Options) { o.RolePath = "x" }, "not a role path"},
		{launcher, func(o *Options) { o.WorkRole = "/nb-launch/W" }, "under the path of the launchers"},
		{launcher, func(o *Options) { o.JobRoles = []string{"/nb-launch/deep/J"} }, "under the path of the launchers"},
		{launcher, func(o *Options) { o.TagKey = "a/b}" }, "not a tag key"},
		{launcher, func(o *Options) { o.TagKey = "aws:x" }, "not a tag key"},
		{launcher, func(o *Options) { o.DenyUnattributed = true }, "for the modes self and per-notebook"},
		{launcher, func(o *Options) { o.Names = []string{strings.Repeat("n", 60)} }, "shorter role prefix"},
		{launcher, func(o *Options) { o.WorkRole = "launch-alice-nb" }, "also named as an existing role"},
		{profile, func(o *Options) { o.Names = []string{strings.Repeat("n", 36)} }, "shorter role prefix"},
		{profile, func(o *Options) { o.UserIDs = map[string]string{"bob": "x"} }, "not among the names"},
		{profile, func(o *Options) { o.UserIDs = map[string]string{"alice": "it's"} }, "not the value of a tag"},
		{studio, func(o *Options) { o.Names = []string{"alice"} }, "needs no names"},
		{studio, func(o *Options) { o.Roles = nil }, "all execution roles"},
		{studio, func(o *Options) { o.Roles = []string{"X", "/p/x"} }, "named twice"},
		{studio, func(o *Options) { o.DomainID = "" }, "needs the id"},
		{studio, func(o *Options) { o.DomainID = "d-$(x)" }, "not a domain id"},
		{studio, func(o *Options) { o.Template = template("nb@{name}") }, "{name} only"},
	}
	for _, test := range tests {
		o := test.base
		test.change(&o)
		if s, err := Generate(o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, %v; want %q", o, s != nil, err, test.want)
		}
	}
	for _, base := range []Options{ok, launcher, profile, studio} {
		mustGenerate(t, base) // so that each change above is what was refused
	}
}

// TestNamesOfOurOwn gives names that the proof uses itself, and others that
// collide with each other in some way.
func TestNamesOfOurOwn(t *testing.T) {
	for _, names := range [][]string{
		{"mallory-nb"}, {"zz-0", "mallory-nb"}, {"x"}, {"x", "nb-x"}, {"x1", "*"}, {"*", "**"}, {"a*", "a?"}, {"*-nb", "z*", "x*", "q*", "m*"},
		{"alice", "bob"}, {"outsider", "foreigner", "untagged"}, {"no", "on", "y1", "null"}, {strings.Repeat("a", 63)}, {strings.Repeat("a", 63) + "*"}, {"?" + strings.Repeat("b", 63)},
	} {
		for _, o := range layouts() {
			if o.Mode == StudioPropagation || o.Mode != Self && strings.ContainsAny(strings.Join(names, ""), "*?") || o.Mode != Self && len(names[0]) > 30 {
				continue
			}
			o.Names = names
			if _, err := Generate(o); err != nil {
				t.Errorf("mode %s with %q: %v", o.Mode, names, err)
			}
		}
	}
}

// TestRandomNames: whatever the names, the documents hold and the rows are true.
func TestRandomNames(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const first, inner = "abcXYZ019", "abcXYZ019-"
	for range 6 {
		var names []string
		seen := map[string]bool{}
		for range 1 + r.IntN(4) {
			b := []byte{first[r.IntN(len(first))]}
			for range r.IntN(20) {
				b = append(b, inner[r.IntN(len(inner))])
			}
			s := strings.TrimRight(string(b), "-")
			if !seen[strings.ToLower(s)] {
				seen[strings.ToLower(s)] = true
				names = append(names, s)
			}
		}
		for layout, o := range layouts() {
			if o.Mode == StudioPropagation {
				continue
			}
			o.Names = names
			if _, err := Generate(o); err != nil {
				t.Fatalf("%s with %q: %v", layout, names, err)
			}
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"*", "a?b", "team-*", "**", "?*", "=*=", "a*b*c?", strings.Repeat("?", 64), "on*"} {
		f.Add(s, "alice-nb")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		s, err := Generate(Options{Mode: Self, Account: account, Roles: []string{"R"}, Names: []string{one, two}})
		if err != nil && strings.Contains(err.Error(), "defect") {
			t.Errorf("%q, %q: %v", one, two, err)
		}
		if err == nil && len(s.Rows) == 0 {
			t.Error("nothing proved")
		}
	})
}

func TestWrap(t *testing.T) {
	got := Wrap(strings.Repeat("word ", 30)+strings.Repeat("x", 100), "- ", "  ")
	for line := range strings.SplitSeq(got, "\n") {
		if len(line) > 78 && !strings.Contains(line, "xxx") || strings.TrimRight(line, " ") != line {
			t.Errorf("line %q", line)
		}
	}
	if strings.Join(strings.Fields(got), " ") != "- "+strings.TrimSpace(strings.Repeat("word ", 30))+" "+strings.Repeat("x", 100) {
		t.Errorf("words are lost: %q", got)
	}
	long := "aws " + strings.Repeat("word ", 30) + "end"
	if got, want := Wrap("Do:\n"+long+"\naws again", "- ", "  "), "- Do:\n    "+long+"\n    aws again"; got != want {
		t.Errorf("commands: got %q, want %q", got, want)
	}
}
