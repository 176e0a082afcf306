package nft

import "testing"

func FuzzParseRule(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0, 'a', 'b', 'c', 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		parseRule(2, msg)
	})
}
