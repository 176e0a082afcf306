package who

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail/source"
	"github.com/nbidentityd/nbidentityd/internal/trail/trailgen"
)

// benchDir is the environment variable that names a trail to measure with; without it
// a small one is made.
const benchDir = "NBIDENTITYD_TRAIL_BENCH"

// cpuTime is what this process has used: on a shared machine elapsed time says little.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkTrail reads the same files in four ways, one after the other: with the
// command, decompressing only (by this command's decompressor and by the standard
// library's), and decoding with encoding/json.
func BenchmarkTrail(b *testing.B) {
	dir := os.Getenv(benchDir)
	if dir == "" {
		dir = b.TempDir()
		if _, err := trailgen.Write(dir, trailgen.Config{Seed: 1, Records: 60_000, Notebooks: 40, Days: 1, Start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
			b.Fatal(err)
		}
	}
	inputs, _, err := source.Find([]string{dir}, nil)
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	each(b, inputs, func(r io.Reader) {
		plain, err := new(source.Decompressor).Plain(r)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, plain)
		if err != nil {
			b.Fatal(err)
		}
		size += n
	})
	for _, way := range []struct {
		name string
		read func(b *testing.B)
	}{
		{"who", func(b *testing.B) {
			if code := Run(b.Context(), []string{"--by", "name", dir}, Config{Stdout: io.Discard, Stderr: io.Discard, Now: time.Now(), TempDir: b.TempDir()}); code != Done {
				b.Fatal("code", code)
			}
		}},
		{"gunzip", func(b *testing.B) {
			each(b, inputs, func(r io.Reader) {
				plain, err := new(source.Decompressor).Plain(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, plain); err != nil {
					b.Fatal(err)
				}
			})
		}},
		{"gunzip-std", func(b *testing.B) {
			each(b, inputs, func(r io.Reader) {
				plain, err := gzip.NewReader(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, plain); err != nil {
					b.Fatal(err)
				}
			})
		}},
		{"gunzip+encoding-json", func(b *testing.B) {
			each(b, inputs, func(r io.Reader) {
				plain, err := new(source.Decompressor).Plain(r)
				if err != nil {
					b.Fatal(err)
				}
				var file struct {
					Records []struct {
						EventTime, EventSource, EventName, EventID, AWSRegion, SourceIPAddress, ErrorCode string
						RequestParameters, ResponseElements                                               json.RawMessage
						UserIdentity                                                                      struct {
							Type, PrincipalID, ARN, AccessKeyID, UserName, InvokedBy string
							SessionContext                                           struct {
								SourceIdentity string
								Attributes     struct{ CreationDate string }
								SessionIssuer  struct{ ARN string }
							}
						}
					}
				}
				var syntax *json.SyntaxError
				if err := json.NewDecoder(plain).Decode(&file); err != nil && !errors.As(err, &syntax) {
					b.Fatal(err)
				}
			})
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(size)
			before := cpuTime(b)
			for b.Loop() {
				way.read(b)
			}
			b.ReportMetric(float64(size)*float64(b.N)/1e6/(cpuTime(b)-before).Seconds(), "MB/cpu-s")
		})
	}
}

func each(b *testing.B, inputs []source.Input, read func(io.Reader)) {
	b.Helper()
	for _, input := range inputs {
		if !strings.Contains(input.Name, "CloudTrail_") {
			continue
		}
		r, err := input.Open()
		if err != nil {
			b.Fatal(err)
		}
		read(r)
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
