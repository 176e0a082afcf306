package sigv4_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// code returns the code of a refusal, "" for none, and fails on an error that
// is not typed.
func code(t testing.TB, err error) sigv4.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var refused *sigv4.Error
	if !errors.As(err, &refused) {
		t.Fatalf("error %v is not a *sigv4.Error", err)
	}
	return refused.Code
}

// read parses a request as a server does. The vectors are written with "\n".
func read(t testing.TB, text string) (*http.Request, []byte) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	raw := strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return r, []byte(body)
}

// The signatures below are those that AWS publishes: in the IAM user guide, in
// the S3 API reference ("Examples: Signature calculations", "Signature
// calculations for the Authorization header: transferring payload in multiple
// chunks") and in the Signature Version 4 test suite.
func TestPublishedVectors(t *testing.T) {
	const (
		suiteKey    = "AKIDEXAMPLE"
		suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
		s3Key       = "AKIAIOSFODNN7EXAMPLE"
		s3Secret    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	)
	suite := func(headers, signature string) string {
		return "\nHost: example.amazonaws.com\nX-Amz-Date: 20150830T123600Z\nAuthorization: AWS4-HMAC-SHA256 " +
			"Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + headers + ", Signature=" + signature
	}
	s3 := func(headers, signature string) string {
		return "\nHost: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z\nAuthorization: AWS4-HMAC-SHA256 " +
			"Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + signature
	}
	const plain = "host;x-amz-date"
	chunk := func(n int, signature string) string {
		sizes := map[int]string{65536: "10000", 1024: "400", 0: "0"}
		return sizes[n] + ";chunk-signature=" + signature + "\r\n" + strings.Repeat("a", n)
	}
	tests := map[string]string{
		"iam ListUsers": "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\nHost: iam.amazonaws.com\n" +
			"Content-Type: application/x-www-form-urlencoded; charset=utf-8\nX-Amz-Date: 20150830T123600Z\n" +
			"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, " +
			"SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
		"get-vanilla": "GET / HTTP/1.1" + suite(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
		"get-utf8":    "GET /\u1234 HTTP/1.1" + suite(plain, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
		"get-vanilla-query-order-key-case": "GET /?Param2=value2&Param1=value1 HTTP/1.1" +
			suite(plain, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
		"get-header-value-trim": "GET / HTTP/1.1\nMy-Header1:  value1\nMy-Header2: \"a   b   c\"" +
			suite("host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
		"get-header-value-order": "GET / HTTP/1.1\nMy-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2" +
			suite("host;my-header1;x-amz-date", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
		"get-relative":            "GET /example/.. HTTP/1.1" + suite(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
		"get-relative-relative":   "GET /example1/example2/../.. HTTP/1.1" + suite(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
		"get-slash":               "GET // HTTP/1.1" + suite(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
		"get-slash-dot-slash":     "GET /./ HTTP/1.1" + suite(plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
		"get-slash-pointless-dot": "GET /./example HTTP/1.1" + suite(plain, "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
		"get-slashes":             "GET //example// HTTP/1.1" + suite(plain, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
		"post-vanilla":            "POST / HTTP/1.1" + suite(plain, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
		"s3 get object": "GET /test.txt HTTP/1.1\nRange: bytes=0-9\nx-amz-content-sha256: " + emptyHash +
			s3("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
		"s3 put object": "PUT /test$file.text HTTP/1.1\nDate: Fri, 24 May 2013 00:00:00 GMT\nx-amz-storage-class: REDUCED_REDUNDANCY\n" +
			"x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072" +
			s3("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd") +
			"\n\nWelcome to Amazon S3.",
		"s3 get lifecycle": "GET /?lifecycle HTTP/1.1\nx-amz-content-sha256: " + emptyHash +
			s3("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
		"s3 list objects": "GET /?max-keys=2&prefix=J HTTP/1.1\nx-amz-content-sha256: " + emptyHash +
			s3("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
		"s3 presigned": "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
			"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
			"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\nHost: examplebucket.s3.amazonaws.com",
		"s3 signed chunks": "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\nx-amz-date: 20130524T000000Z\n" +
			"x-amz-storage-class: REDUCED_REDUNDANCY\nContent-Encoding: aws-chunked\nContent-Length: 66824\nx-amz-decoded-content-length: 66560\n" +
			"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\n" +
			"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
			"SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class," +
			"Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\n\n" +
			chunk(65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648") + "\r\n" +
			chunk(1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497") + "\r\n" +
			chunk(0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9") + "\r\n",
		"s3 signed chunks and trailer": "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\nx-amz-date: 20130524T000000Z\n" +
			"x-amz-storage-class: REDUCED_REDUNDANCY\nContent-Encoding: aws-chunked\nx-amz-decoded-content-length: 66560\n" +
			"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\nx-amz-trailer: x-amz-checksum-crc32c\n" +
			"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
			"SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer," +
			"Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e\n\n" +
			chunk(65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2") + "\r\n" +
			chunk(1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7") + "\r\n" +
			chunk(0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992") +
			"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, body := read(t, text)
			secret := func(keyID, token string) (string, error) {
				if token != "" {
					t.Errorf("token %q", token)
				}
				secret, ok := map[string]string{suiteKey: suiteSecret, s3Key: s3Secret}[keyID]
				if !ok {
					return "", io.EOF
				}
				return secret, nil
			}
			claimed, err := sigv4.Read(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sigv4.Verify(r, body, claimed.Signed.Add(time.Minute), secret)
			if err != nil {
				t.Fatal(err)
			}
			if got != claimed || got.Region != "us-east-1" {
				t.Errorf("credential = %+v, claimed %+v", got, claimed)
			}
			for i := range min(len(body), 300) { // the chunk's head and some of its data
				spoiled := append([]byte(nil), body...)
				spoiled[len(body)-1-i] ^= 1
				if _, err := sigv4.Verify(r, spoiled, claimed.Signed, secret); err == nil {
					t.Fatalf("accepted with byte %d from the end of the body changed", i)
				}
			}
		})
	}
}
