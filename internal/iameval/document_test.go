package iameval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, data string) Document {
	t.Helper()
	d, err := ParseDocument([]byte(data))
	if err != nil {
		t.Fatalf("ParseDocument(%s): %v", data, err)
	}
	return d
}

// document reads one of the documents that the project gives to people.
func document(t *testing.T, name string) Document {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(data))
}

func TestParseDocument(t *testing.T) {
	t.Parallel()
	got := parse(t, `{"Version":"2012-10-17","Id":"x","Statement":[
	 {"Sid":"","Effect":"Allow","Principal":{"AWS":["111122223333","AROAEXAMPLE"],"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole",
	  "Condition":{"stringlike":{"sts:SourceIdentity":["a*",1,true]},"ForAnyValue:ArnLikeIfExists":{"aws:SourceArn":"arn:aws:s3:::${aws:userid, 'a}b'}"}}},
	 {"Sid":"","Effect":"Deny","NotPrincipal":"*","NotAction":["s3:Get*"],"NotResource":"arn:aws:s3:::b/${aws:username}"}]}`)
	want := Document{Version: Version2012, ID: "x", Statements: []Statement{
		{
			Effect:     Allow,
			Principals: []PrincipalName{{"AWS", "111122223333"}, {"AWS", "AROAEXAMPLE"}, {"Service", "sagemaker.amazonaws.com"}},
			Actions:    []string{"sts:AssumeRole"},
			Conditions: []Condition{
				{"StringLike", "sts:SourceIdentity", []string{"a*", "1", "true"}},
				{"ForAnyValue:ArnLikeIfExists", "aws:SourceArn", []string{"arn:aws:s3:::${aws:userid, 'a}b'}"}},
			},
		},
		{
			Index: 1, Effect: Deny, NotPrincipals: []PrincipalName{{"AWS", "*"}},
			NotActions: []string{"s3:Get*"}, NotResources: []string{"arn:aws:s3:::b/${aws:username}"},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	single := parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	if single.Version != Version2008 || len(single.Statements) != 1 {
		t.Errorf("statement as object, no version: %+v", single)
	}
}

// TestParseLongDocument: AWS's own managed policies are longer than what IAM takes
// from anybody else, and have to be read all the same.
func TestParseLongDocument(t *testing.T) {
	t.Parallel()
	actions := strings.Repeat(`"sagemaker:DescribeNotebookInstance",`+strings.Repeat(" ", 16), 3000)
	d := parse(t, `{"Statement":{"Effect":"Allow","Action":[`+actions+`"s3:Get*"],"Resource":"*"}}`)
	if n := len(d.Statements[0].Actions); n != 3001 {
		t.Errorf("%d actions", n)
	}
}

// TestParseDocumentRefuses lists documents with the words that the error must
// hold: where, what and the remedy.
func TestParseDocumentRefuses(t *testing.T) {
	t.Parallel()
	st := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	base := `"Effect":"Allow","Action":"s3:Get*","Resource":"*"`
	cond := func(s string) string { return st(`{"Sid":"A",` + base + `,"Condition":` + s + `}`) }
	principal := func(s string) string {
		return st(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + s + `}`)
	}
	for _, tt := range []struct{ name, doc, want string }{
		{"empty", ``, "not JSON"},
		{"truncated", `{"Version":`, "not JSON"},
		{"trailing data", st(`{`+base+`}`) + `{}`, "not JSON"},
		{"array", `[]`, "must be a JSON object"},
		{"null", `null`, "must be a JSON object"},
		{"deep nesting", strings.Repeat("[", 100000), "not JSON"},
		{"too long", strings.Repeat(" ", maxDocument+1), "split the policy"},
		{"not UTF-8", "{\xff}", "save the file as UTF-8"},
		{"not Latin-1", `{"Id":"日"}`, "U+65E5 at byte 7"},
		{"no statement", `{"Version":"2012-10-17"}`, "Statement is missing"},
		{"empty statements", st(``), "add a statement"},
		{"statement is a string", st(`"x"`), "Statement[0]: must be a JSON object"},
		{"version", `{"Version":"2012-10-18","Statement":[{` + base + `}]}`, `use "2012-10-17"`},
		{"version is a number", `{"Version":2012,"Statement":[{` + base + `}]}`, "Version: must be a string"},
		{"unknown top element", `{"Versoin":"x","Statement":[]}`, "Versoin: unknown element"},
		{"duplicate element", `{"Id":"a","Id":"b"}`, `"Id" appears twice`},
		{"second statement, unknown element", st(`{` + base + `},{"Sid":"Two",` + base + `,"Efect":"Allow"}`), `Statement[1] "Two": Efect: unknown element`},
		{"Sid after the fault is named too", st(`{"Efect":"Allow","Sid":"Late"}`), `Statement[0] "Late"`},
		{"element in lower case", st(`{"effect":"Allow","Action":"s3:Get*","Resource":"*"}`), "effect: unknown element"},
		{"duplicate effect", st(`{"Effect":"Deny",` + base + `}`), `"Effect" appears twice`},
		{"missing effect", st(`{"Sid":"NoEffect","Action":"s3:Get*","Resource":"*"}`), `Statement[0] "NoEffect": no Effect: add`},
		{"effect in lower case", st(`{"Effect":"allow","Action":"s3:Get*","Resource":"*"}`), "must be Allow or Deny"},
		{"both actions", st(`{` + base + `,"NotAction":"s3:Put*"}`), "both Action and NotAction: keep one"},
		{"both resources", st(`{` + base + `,"NotResource":"*"}`), "both Resource and NotResource"},
		{"both principals", st(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","NotPrincipal":"*"}`), "both Principal and NotPrincipal"},
		{"no action", st(`{"Effect":"Allow","Resource":"*"}`), "no action: add"},
		{"no resource", st(`{"Effect":"Allow","Action":"s3:Get*"}`), "no resource: add"},
		{"empty actions", st(`{"Effect":"Allow","Action":[],"Resource":"*"}`), "the list is empty"},
		{"action without service", st(`{"Effect":"Allow","Action":"GetObject","Resource":"*"}`), "service:Action"},
		{"action with wild service", st(`{"Effect":"Allow","Action":"s*:GetObject","Resource":"*"}`), "written out"},
		{"action with blank", st(`{"Effect":"Allow","Action":"s3: GetObject","Resource":"*"}`), "cannot be part of an action"},
		{"action is a number", st(`{"Effect":"Allow","Action":5,"Resource":"*"}`), "must be a string"},
		{"nested list", st(`{"Effect":"Allow","Action":[["s3:Get*"]],"Resource":"*"}`), "must be a string"},
		{"resource is no ARN", st(`{"Effect":"Allow","Action":"s3:Get*","Resource":"bucket/*"}`), "must be \"*\" or an ARN"},
		{"short ARN", st(`{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3*"}`), "six parts"},
		{"variable in the account", st(`{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:iam::${aws:PrincipalAccount}:role/x"}`), "only in the last"},
		{"duplicate Sid", st(`{"Sid":"A",` + base + `},{"Sid":"B",` + base + `},{"Sid":"A",` + base + `}`), `Statement[2] "A": Statement[0] has the same Sid`},
		{"Sid with dash", st(`{"Sid":"a-b",` + base + `}`), "only letters and digits"},
		{"Sid is null", st(`{"Sid":null,` + base + `}`), "Sid: must be a string"},
		{"condition list", cond(`[]`), `Statement[0] "A": Condition: must be a JSON object`},
		{"unknown operator", cond(`{"StringMatches":{"aws:userid":"x"}}`), `"StringMatches" is not a condition operator`},
		{"lone modifier", cond(`{"IfExists":{"aws:userid":"x"}}`), "is not a condition operator"},
		{"Null with IfExists", cond(`{"NullIfExists":{"aws:userid":"true"}}`), "use plain Null"},
		{"Null with set operator", cond(`{"ForAnyValue:Null":{"aws:userid":"true"}}`), "use plain Null"},
		{"key twice in another case", cond(`{"StringLike":{"aws:userid":"x","aws:UserId":"y"}}`), "appears twice"},
		{"key in two spellings of one operator", cond(`{"StringLike":{"aws:userid":"x"},"stringlike":{"aws:userid":"y"}}`), "appears twice"},
		{"key without prefix", cond(`{"StringLike":{"userid":"x"}}`), "prefix:name"},
		{"operators swapped with keys", cond(`{"StringLike":{"aws:userid":{"x":"y"}}}`), "must be a string, a number or a boolean"},
		{"null value", cond(`{"StringLike":{"aws:userid":null}}`), "must be a string, a number or a boolean"},
		{"no values", cond(`{"StringLike":{"aws:userid":[]}}`), "list of values is empty"},
		{"no bool", cond(`{"Bool":{"aws:ViaAWSService":"no"}}`), "must be true or false"},
		{"no number", cond(`{"NumericEquals":{"s3:max-keys":"0x10"}}`), "must be a number"},
		{"infinity", cond(`{"NumericEquals":{"s3:max-keys":"Inf"}}`), "must be a number"},
		{"no date", cond(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`), "must be a date"},
		{"no address", cond(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}`), "must be an IP address"},
		{"no base64", cond(`{"BinaryEquals":{"x:y":"%"}}`), "must be base64"},
		{"open variable", cond(`{"StringEquals":{"aws:userid":"${aws:username"}}`), "closing brace"},
		{"empty variable", cond(`{"StringEquals":{"aws:userid":"${}"}}`), "policy variable"},
		{"blank in variable", cond(`{"StringEquals":{"aws:userid":"${ aws:username}"}}`), "policy variable"},
		{"nested variable", cond(`{"StringEquals":{"aws:userid":"${aws:PrincipalTag/${aws:username}}"}}`), "policy variable"},
		{"open default", cond(`{"StringEquals":{"aws:userid":"${aws:username, 'x}"}}`), "broken default"},
		{"default without comma", cond(`{"StringEquals":{"aws:userid":"${aws:username 'x'}"}}`), "broken default"},
		{"principal is a plain ARN", principal(`"arn:aws:iam::111122223333:root"`), `"*" or an object`},
		{"principal is empty", principal(`{}`), "add a principal"},
		{"unknown principal kind", principal(`{"Aws":"*"}`), `unknown kind of principal "Aws"`},
		{"wildcard in principal", principal(`{"AWS":"arn:aws:iam::111122223333:role/nb-*"}`), "aws:PrincipalArn"},
		{"short account", principal(`{"AWS":"11112222333"}`), "must be an account"},
		{"root of nothing", principal(`{"AWS":"arn:aws:iam:::root"}`), "must be an account"},
		{"session without name", principal(`{"AWS":"arn:aws:sts::111122223333:assumed-role/R"}`), "must be an account"},
		{"session with path", principal(`{"AWS":"arn:aws:sts::111122223333:assumed-role/service-role/R/s"}`), "must be an account"},
		{"a group", principal(`{"AWS":"arn:aws:iam::111122223333:group/g"}`), "must be an account"},
		{"service with wildcard", principal(`{"Service":"*"}`), "service principal"},
		{"empty federated", principal(`{"Federated":""}`), "write its name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseDocument([]byte(tt.doc))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

// TestVariablesNeedTheVersion shows that 2008-10-17 takes "${" as plain text.
func TestVariablesNeedTheVersion(t *testing.T) {
	t.Parallel()
	const statement = `"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::${aws:username"}}`
	parse(t, `{"Version":"2008-10-17",`+statement)
	if _, err := ParseDocument([]byte(`{"Version":"2012-10-17",` + statement)); err == nil {
		t.Error("an open variable passed in 2012-10-17")
	}
}

func TestCheckIdentityAndTrust(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, statement, identity, trust string }{
		{"identity", `"Action":"s3:Get*","Resource":"*"`, "", "Resource does not belong"},
		{"trust", `"Action":["sts:AssumeRole","STS:*"],"Principal":"*"`, "Principal does not belong", ""},
		{"bucket policy", `"Action":"s3:Get*","Resource":"*","Principal":"*"`, "Principal does not belong", "Resource does not belong"},
		{"trust with another service", `"Action":"s3:Get*","Principal":"*"`, "Principal does not belong", "only sts: actions"},
		{"trust with everything", `"Action":"*","Principal":"*"`, "Principal does not belong", "only sts: actions"},
	} {
		d := parse(t, `{"Statement":{"Effect":"Allow",`+tt.statement+`}}`)
		for _, check := range []struct {
			kind string
			err  error
			want string
		}{{"identity", d.CheckIdentity(), tt.identity}, {"trust", d.CheckTrust(), tt.trust}} {
			if (check.err == nil) != (check.want == "") || (check.err != nil && !strings.Contains(check.err.Error(), check.want)) {
				t.Errorf("%s as %s: %v, want %q", tt.name, check.kind, check.err, check.want)
			}
		}
	}
	for _, name := range []string{"self_trust", "launcher_trust", "work_trust", "job_trust", "propagation_service", "propagation_trust"} {
		if err := document(t, name).CheckTrust(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"self_permissions", "launcher_permissions", "deny_unattributed"} {
		if err := document(t, name).CheckIdentity(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]int{
		"":                            0,
		" {\n\t\"a\" : \"b c\" }\r\n": 11,
		`{"a":"\" x"}`:                12,
		`{"a":"é"}`:                   9,
	} {
		if got := Size([]byte(doc)); got != want {
			t.Errorf("Size(%q) = %d, want %d", doc, got, want)
		}
	}
	for _, name := range []string{"self_trust", "work_trust", "propagation_trust"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if n := Size(data); n > MaxTrustDefault {
			t.Errorf("%s: %d characters, over the default trust limit", name, n)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"*"},"NotAction":"*","NotResource":["arn:aws:s3:::${aws:userid, '}'}"],
	 "Condition":{"ForAllValues:NumericLessThanIfExists":{"a:b":[1e3,"2"]},"Null":{"c:d":true},"BinaryEquals":{"e:f":"QQ=="},"NotIpAddress":{"g:h":"::1/64"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDocument(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error of more than one line: %q", err)
			}
			return
		}
		// Whatever was accepted can be evaluated, with and without a context.
		p := Policy{Name: "p", Document: d}
		for _, context := range []map[string][]string{nil, {"a:b": {"1", "x"}, "aws:sourceidentity": {"alice-nb"}}} {
			req := Request{Principal: Principal{Account: "111122223333", RoleARN: role, SessionARN: base}, Action: "sts:AssumeRole", Resource: role, Context: context}
			for _, got := range []Decision{EvaluateIdentity([]Policy{p}, req), EvaluateTrust(p, req)} {
				if got.Reason == "" || strings.ContainsAny(got.Reason, "\n\r") {
					t.Errorf("reason %q", got.Reason)
				}
			}
		}
	})
}
