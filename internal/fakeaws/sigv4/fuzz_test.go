package sigv4_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

// FuzzVerify feeds whole requests. Nothing that was not signed with the secret
// can be accepted, every refusal is typed, and Read agrees with Verify.
func FuzzVerify(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, o := range orders {
		if len(o.body) > 1000 {
			continue
		}
		var raw bytes.Buffer
		if err := o.sign(f, "http://service.amazonaws.com", now).Write(&raw); err != nil {
			f.Fatal(err)
		}
		f.Add(raw.Bytes())
	}
	f.Add([]byte("PUT /b/k HTTP/1.1\r\nHost: s3\r\nX-Amz-Date: 20260102T030405Z\r\nX-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\r\n" +
		"Authorization: AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/20260102/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=00\r\n" +
		"Content-Length: 50\r\n\r\n0;chunk-signature=00\r\nx-amz-trailer-signature:00\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		// Another secret than the seeds were signed with: all must fail.
		got, err := sigv4.Verify(r, body, now, func(string, string) (string, error) { return "another secret EXAMPLE", nil })
		if err == nil {
			t.Fatalf("accepted %q", raw)
		}
		code(t, err)
		claimed, _ := sigv4.Read(r)
		if claimed != got {
			t.Errorf("Read says %+v, Verify %+v", claimed, got)
		}
	})
}
