package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefault(t *testing.T) {
	s := Default()
	if s.AccountID != "111122223333" || s.Notebooks[0].Name != "alice-nb" || s.Domain == nil {
		t.Errorf("default scenario: %+v", s)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("copy", data)
	if err != nil {
		t.Fatal(err)
	}
	plain := cmp.Transformer("policy", func(m json.RawMessage) any {
		var v any
		_ = json.Unmarshal(m, &v)
		return v
	})
	if diff := cmp.Diff(s, again, plain); diff != "" {
		t.Errorf("written and read again:\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	s, err := Parse("small", []byte(`{"roles":[{"name":"R","trust":{}}],"notebooks":[{"name":"n","role":"R"}],"base_session":{"lifetime":"60s"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Region != "us-east-1" || s.Partition != "aws" || time.Duration(s.BaseSession.RotateBefore) != 10*time.Second ||
		s.Roles[0].Path != "/" || s.Roles[0].MaxSessionSeconds != 3600 || s.Notebooks[0].RootAccess != "Enabled" || s.Notebooks[0].MinimumIMDSVersion != "2" {
		t.Errorf("%+v", s)
	}
}

func TestErrorsNameThePlace(t *testing.T) {
	const roles = `"roles":[{"name":"R","trust":{}}]`
	const studio = roles + `,"domain":{"id":"d-x","user_role":"R"},"profiles":[{"name":"alice"}]`
	for _, tt := range []struct{ json, want string }{
		{`{"acount_id":"1"}`, `unknown field "acount_id"`},
		{`{"roles":[{"name":"R","trust":{},"polices":[]}]}`, `unknown field "polices"`},
		{`{} {}`, "data after the first JSON value"},
		{`{`, "unexpected EOF"},
		{``, "EOF"},
		{`[]`, "cannot unmarshal array"},
		{`{"account_id":"12"}`, `account_id "12" is not 12 digits`},
		{`{"region":"Virginia"}`, `region "Virginia"`},
		{`{"partition":"azure"}`, `partition "azure"`},
		{`{"base_session":{"lifetime":"1h","rotate_before":"2h"}}`, "rotate_before must lie between"},
		{`{"base_session":{"lifetime":"-1h"}}`, "lifetime must be positive"},
		{`{"base_session":{"lifetime":"soon"}}`, `invalid duration "soon"`},
		{`{"sts_requests_per_second":-1}`, "sts_requests_per_second is negative"},
		{`{"roles":[{"name":"a b","trust":{}}]}`, `role "a b": not a role name`},
		{`{"roles":[{"name":"R","path":"x","trust":{}}]}`, `role R: path "x"`},
		{`{"roles":[{"name":"R","id":"AROA1","trust":{}}]}`, `role R: id "AROA1"`},
		{`{"roles":[{"name":"R"}]}`, "role R: trust is missing"},
		{`{"roles":[{"name":"R","trust":{},"max_session_seconds":60}]}`, "role R: max_session_seconds 60"},
		{`{"roles":[{"name":"R","trust":{}},{"name":"R","trust":{}}]}`, "role R is there twice"},
		{`{"roles":[{"name":"R","trust":{},"policies":[{"name":"P"}]}]}`, `role R: policy "P" has no document`},
		{`{` + roles + `,"notebooks":[{"name":"n","role":"S"}]}`, `notebook n: no role "S" in roles`},
		{`{` + roles + `,"notebooks":[{"name":"-n","role":"R"}]}`, `notebook "-n": not a notebook instance name`},
		{`{` + roles + `,"notebooks":[{"name":"n","role":"R","root_access":"Maybe"}]}`, `notebook n: root_access "Maybe"`},
		{`{` + roles + `,"notebooks":[{"name":"n","role":"R","minimum_imds_version":"3"}]}`, `notebook n: minimum_imds_version "3"`},
		{`{"profiles":[{"name":"alice"}]}`, "need a domain"},
		{`{` + roles + `,"domain":{"id":"x","user_role":"R"}}`, `domain: id "x"`},
		{`{` + roles + `,"domain":{"id":"d-x","user_role":"S"}}`, `domain: user_role: no role "S"`},
		{`{` + roles + `,"domain":{"id":"d-x","user_role":"R","execution_role_identity_config":"ON"}}`, `execution_role_identity_config "ON"`},
		{`{` + studio + `,"spaces":[{"name":"s","sharing":"Private"}]}`, "space s: a private space needs an owner"},
		{`{` + studio + `,"spaces":[{"name":"s","sharing":"Private","owner":"bob"}]}`, `space s: no profile "bob"`},
		{`{` + studio + `,"spaces":[{"name":"s","sharing":"shared"}]}`, `space s: sharing "shared"`},
		{`{` + studio + `,"apps":[{"name":"a","type":"Jupyter","profile":"alice"}]}`, `app a: unknown type "Jupyter"`},
		{`{` + studio + `,"apps":[{"name":"a","type":"JupyterLab"}]}`, "app a: give either profile or space"},
		{`{` + studio + `,"apps":[{"name":"a","type":"JupyterLab","space":"s"}]}`, `app a: no space "s"`},
		{`{"buckets":[{"name":"B"}]}`, `buckets[0]: "B" is not a bucket name`},
	} {
		_, err := Parse("file.json", []byte(tt.json))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "file.json") {
			t.Errorf("%s\n got: %v\nwant: … %s", tt.json, err, tt.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Parse("f", []byte(`{"account_id":"1","region":"x"}`))
	if err == nil || !strings.Contains(err.Error(), "account_id") || !strings.Contains(err.Error(), "region") {
		t.Errorf("%v", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(path, DefaultJSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
	if _, err := Load(path + ".none"); err == nil {
		t.Error("loaded a file that does not exist")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"account_id":"111122223333","roles":[{"name":"R","trust":{},"tags":{"a":"b"}}],"notebooks":[{"name":"n","role":"R"}],"domain":{"id":"d-x","user_role":"R"},"profiles":[{"name":"p"}],"spaces":[{"name":"s","owner":"p","sharing":"Private"}],"apps":[{"name":"a","type":"JupyterLab","space":"s"}]}`))
	f.Add([]byte(`{"roles":[{"name":"R","trust":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("accepted but not valid: %v", err)
		}
	})
}
