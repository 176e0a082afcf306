package fault_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
)

func admin(t *testing.T, set *fault.Set, method, target, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	set.Admin().ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	got, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, strings.TrimSpace(string(got))
}

func TestAdmin(t *testing.T) {
	var set fault.Set
	steps := []struct {
		method, target, body string
		status               int
		want                 string
	}{
		{"GET", "/faults", "", 200, `[]`},
		{"PUT", "/faults", `{"service":"sts","kind":"throttle","count":3}`, 200,
			`[{"service":"sts","kind":"throttle","count":3,"hits":0,"spent":false}]`},
		{"POST", "/faults", `[{"service":"sts","kind":"clock_skew","duration":"-2h"},{"kind":"error"}]`, 200,
			`[{"service":"*","kind":"error","status":503,"hits":0,"spent":false},` +
				`{"service":"sts","kind":"clock_skew","duration":"-2h0m0s","hits":0,"spent":false},` +
				`{"service":"sts","kind":"throttle","count":3,"hits":0,"spent":false}]`},
		{"DELETE", "/faults?kind=clock_skew&service=sts", "", 200,
			`[{"service":"*","kind":"error","status":503,"hits":0,"spent":false},` +
				`{"service":"sts","kind":"throttle","count":3,"hits":0,"spent":false}]`},
		{"DELETE", "/faults?service=sts", "", 200, `[{"service":"*","kind":"error","status":503,"hits":0,"spent":false}]`},
		{"PATCH", "/faults", "", 405, `{"error":"method not allowed"}`},
		{"DELETE", "/faults", "", 200, `[]`},
		{"PUT", "/faults", `[{"service":"sts","kind":"reset"},{"service":"sts","kind":"latency"}]`, 400, `{"error":"fault latency: needs a duration"}`},
		{"GET", "/faults", "", 200, `[]`},
	}
	for _, step := range steps {
		status, got := admin(t, &set, step.method, step.target, step.body)
		if status != step.status || got != step.want {
			t.Errorf("%s %s %s = %d\n got %s\nwant %s", step.method, step.target, step.body, status, got, step.want)
		}
	}
}

func TestAdminRefuses(t *testing.T) {
	var set fault.Set
	for _, body := range []string{
		``, `null`, `{`, `"reset"`, `{}`, `{"kind":"explode"}`, `{"kind":"reset","cuont":1}`, `{"kind":"reset"} {"kind":"reset"}`, `{"kind":"reset"},{"kind":"hang"}`,
		`{"kind":"reset","count":-1}`, `{"kind":"reset","duration":"1s"}`, `{"kind":"reset","status":500}`, `{"kind":"reset","body":"x"}`,
		`{"kind":"latency"}`, `{"kind":"latency","duration":"-1s"}`, `{"kind":"latency","duration":"soon"}`, `{"kind":"latency","duration":1}`,
		`{"kind":"error","status":200}`, `{"kind":"error","status":600}`, `{"kind":"clock_skew","duration":"1h","count":1}`,
		`[` + strings.Repeat(" ", 1<<20) + `]`,
	} {
		status, got := admin(t, &set, "PUT", "/", body)
		if status != http.StatusBadRequest || !strings.Contains(got, "error") {
			t.Errorf("PUT %.60s = %d %s", body, status, got)
		}
	}
	if list := set.List(); len(list) != 0 {
		t.Errorf("list = %+v", list)
	}
}

func FuzzAdmin(f *testing.F) {
	f.Add(`{"service":"sts","kind":"throttle","count":3}`)
	f.Add(`[{"kind":"slow","duration":"1.5s"},{"kind":"malformed","body":"\u0000"}]`)
	f.Fuzz(func(t *testing.T, body string) {
		var set, again fault.Set
		status, list := admin(t, &set, "PUT", "/", body)
		if status != http.StatusOK {
			if len(set.List()) != 0 {
				t.Errorf("refused %q but set %+v", body, set.List())
			}
			return
		}
		// What is listed, less the counters, can be set again.
		list = strings.ReplaceAll(list, `,"hits":0,"spent":false}`, "}")
		if status, got := admin(t, &again, "PUT", "/", list); status != http.StatusOK || cmp.Diff(set.List(), again.List()) != "" {
			t.Errorf("setting %s again = %d %s", list, status, got)
		}
		if set.Offset("x") != 0 && set.List()[0].Duration == 0 {
			t.Errorf("offset %s from %s", set.Offset("x").Round(time.Second), list)
		}
	})
}
