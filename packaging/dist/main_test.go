package main

import (
	"errors"
	"testing"
)

func TestPackageVersion(t *testing.T) {
	for _, tt := range []struct{ describe, want string }{
		{"1.2.3", "1.2.3"},
		{"v1.2.3", "1.2.3"},
		{"1.2.3~rc1", "1.2.3~rc1"},
		{"v1.2.3-5-gabcdef0", "1.2.3.5.gabcdef0"},
		{"v1.2.3-dirty", "1.2.3.dirty"},
		{"abcdef0", "0.0.0.42.gabcdef0"},
		{"1234567", "0.0.0.42.g1234567"},
		{"abcdef0-dirty", "0.0.0.42.gabcdef0.dirty"},
	} {
		got, err := packageVersion(tt.describe, func() (int64, error) { return 42, nil })
		if err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v; want %q", tt.describe, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "unversioned", "v", "1.2 3", "1.2/3", "-1"} {
		if got, err := packageVersion(bad, func() (int64, error) { return 0, errors.New("no git") }); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

func TestARMember(t *testing.T) {
	const magic = "!<arch>\n"
	header := func(name, size string) string {
		pad := func(s string, n int) string {
			for len(s) < n {
				s += " "
			}
			return s
		}
		return pad(name, 16) + pad("0", 12) + pad("0", 6) + pad("0", 6) + pad("100644", 8) + pad(size, 10) + "`\n"
	}
	archive := magic + header("odd", "3") + "abc\n" + header("data.tar.gz/", "2") + "xy"
	got, err := arMember([]byte(archive), "data.tar.gz")
	if err != nil || string(got) != "xy" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "x", magic, magic + header("data.tar.gz", "9") + "x", magic + header("data.tar.gz", "-1"), magic + header("data.tar.gz", "")} {
		if got, err := arMember([]byte(bad), "data.tar.gz"); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}
