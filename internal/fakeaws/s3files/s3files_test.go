package s3files

import (
	"testing"
)

func TestByteRange(t *testing.T) {
	for _, tt := range []struct {
		header      string
		size        int
		first, last int
		ok          bool
	}{
		{"bytes=0-0", 10, 0, 0, true},
		{"bytes=2-", 10, 2, 9, true},
		{"bytes=-3", 10, 7, 9, true},
		{"bytes=-30", 10, 0, 9, true},
		{"bytes=8-100", 10, 8, 9, true},
		{"bytes=-0", 10, 0, 0, false},
		{"bytes=10-", 10, 0, 0, false},
		{"bytes=5-2", 10, 0, 0, false},
		{"bytes=0-", 0, 0, 0, false},
		{"bytes=-", 10, 0, 0, false},
		{"bytes=--5", 10, 0, 0, false},
		{"bytes=-5-", 10, 0, 0, false},
		{"bytes=0-1,3-4", 10, 0, 0, false},
		{"lines=0-1", 10, 0, 0, false},
		{"bytes=99999999999999999999-", 10, 0, 0, false},
	} {
		first, last, ok := byteRange(tt.header, tt.size)
		if ok != tt.ok || ok && (first != tt.first || last != tt.last) {
			t.Errorf("%s of %d: %d-%d %v", tt.header, tt.size, first, last, ok)
		}
	}
}

func FuzzByteRange(f *testing.F) {
	f.Add("bytes=1-2", 10)
	f.Add("bytes=-9223372036854775808", 3)
	f.Fuzz(func(t *testing.T, header string, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		body := make([]byte, size)
		if first, last, ok := byteRange(header, size); ok {
			_ = body[first : last+1] // must not panic
		}
	})
}
