package sigv4

import (
	"bytes"
	"fmt"
	"testing"
)

func signer() chunkSigner {
	return chunkSigner{key: []byte("key"), date: "20260102T030405Z", scope: "20260102/us-east-1/s3/aws4_request", previous: "seed"}
}

// chunked signs data in chunks of n bytes, with a trailer when it is not empty.
func chunked(data []byte, n int, trailer string) []byte {
	s := signer()
	var b bytes.Buffer
	for {
		chunk := data[:min(n, len(data))]
		data = data[len(chunk):]
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n", len(chunk), s.next("-PAYLOAD", hash(nil), hash(chunk)))
		if len(chunk) == 0 {
			break
		}
		b.Write(chunk)
		b.WriteString("\r\n")
	}
	if trailer != "" {
		fmt.Fprintf(&b, "%s\r\nx-amz-trailer-signature:%s\r\n", trailer, s.next("-TRAILER", hash([]byte(trailer+"\n"))))
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func TestChunks(t *testing.T) {
	data := bytes.Repeat([]byte("data"), 50)
	for _, trailer := range []string{"", "x-amz-checksum-crc32:i9aeUg=="} {
		body := chunked(data, 64, trailer)
		s := signer()
		if n, err := s.verify(body, trailer != ""); err != nil || n != int64(len(data)) {
			t.Fatalf("verify = %d, %v", n, err)
		}
		for i := range body {
			for _, spoiled := range [][]byte{
				append(append(bytes.Clone(body[:i]), body[i]^1), body[i+1:]...), // changed
				body[:i], // cut
				append(append(bytes.Clone(body[:i]), 'x'), body[i:]...), // inserted
			} {
				if trailer != "" && len(spoiled) == len(body)-2 {
					continue // the last empty line is optional behind a trailer
				}
				s := signer()
				if _, err := s.verify(spoiled, trailer != ""); err == nil {
					t.Errorf("accepted %q", spoiled)
				}
			}
		}
	}
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("some data"), uint8(4), []byte("0;chunk-signature=00\r\n\r\n"), true)
	f.Add([]byte(""), uint8(0), []byte("ffffffffffffffff;chunk-signature=\r\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, n uint8, garbage []byte, trailer bool) {
		name := ""
		if trailer {
			name = "x-amz-checksum-crc32:i9aeUg=="
		}
		s := signer()
		if got, err := s.verify(chunked(data, int(n)+1, name), trailer); err != nil || got != int64(len(data)) {
			t.Fatalf("refused its own chunks: %d, %v", got, err)
		}
		s = signer()
		if _, err := s.verify(garbage, trailer); err == nil {
			t.Fatalf("accepted %q", garbage)
		}
	})
}
