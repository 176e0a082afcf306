package settings

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// maxSocketPath is sun_path of unix(7), less its final NUL.
const maxSocketPath = 107

// checkURL accepts the base URLs that the SDK's clients can use.
func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("want http://host or https://host, got %q", s)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want no user, query or fragment in the URL")
	}
	return nil
}

// Keys lists every key of the file, tables included, dotted.
func Keys() []string { return knownKeys("", reflect.TypeFor[Settings]()) }

// nearest is the known key that the unknown one was probably meant to be, as
// it would be written, or "".
func nearest(key []string) string {
	if len(key) == 0 {
		return ""
	}
	last := key[len(key)-1]
	best, bestDistance := "", len(last)/2+1
	for _, known := range Keys() {
		name := known[strings.LastIndexByte(known, '.')+1:]
		if d := distance(last, name); d < bestDistance {
			best, bestDistance = known, d
		}
	}
	return best
}

// knownKeys lists the dotted keys of a settings struct.
func knownKeys(prefix string, t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("toml")
		keys = append(keys, name)
		switch ft := f.Type; {
		case ft.Kind() == reflect.Struct:
			keys = append(keys, knownKeys(name+".", ft)...)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			keys = append(keys, knownKeys(name+".", ft.Elem())...)
		}
	}
	return keys
}

// distance is the edit distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
