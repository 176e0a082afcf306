package credserver

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// BenchmarkFaces compares each face with a bare net/http handler that returns
// the same bytes, with kept and with new connections. The two take turns, so
// that whatever else the machine does meets both. It prints the answers per
// second and the percentiles of their times for the face, and x-…, the ratios to
// the bare handler's.
//
//	go test -run '^$' -bench Faces -benchtime 20000x ./internal/credserver
func BenchmarkFaces(b *testing.B) {
	// As the daemon logs: one line of JSON and one write for each vend.
	sink, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(sink), zapcore.InfoLevel))
	cfg := Config{Credentials: &provider{value: good()}, Log: log}

	container := startContainer(b, cfg)
	imds := startIMDS(b, cfg, IMDSConfig{})
	unix := start(b, Config{Credentials: cfg.Credentials, Log: log})
	token := imds.imdsToken(b, "21600")
	for _, face := range []struct {
		name string
		q    question
	}{
		{"container", question{"tcp", container.addr, ContainerPath, "Authorization", container.token(b, uint32(os.Geteuid()))}},
		{"imds", question{"tcp", imds.addr, rolesPath + "/nbidentityd", tokenHeader, token}},
		{"unix", question{"unix", unix.path, "/v1/credentials", "Accept", "*/*"}},
	} {
		bare := face.q
		body, err := fetch(newRunner(face.q, 1, false).http, "GET", face.q.url(), face.q.name, face.q.value)
		if err != nil {
			b.Fatal(err)
		}
		bare.addr = startBare(b, face.q.network, []byte(body))
		for _, keep := range []bool{true, false} {
			if keep && face.q.network == "unix" {
				continue // one request each
			}
			for _, clients := range []int{1, 8, 64} {
				b.Run(face.name+"/"+map[bool]string{true: "kept", false: "new"}[keep]+"/c="+strconv.Itoa(clients), func(b *testing.B) {
					ours, theirs := newRunner(face.q, clients, keep), newRunner(bare, clients, keep)
					defer ours.http.CloseIdleConnections()
					defer theirs.http.CloseIdleConnections()
					for done := 0; done < b.N; done += turn {
						theirs.run(b, turn)
						ours.run(b, turn)
					}
					ours.report(b, theirs)
				})
			}
		}
	}
}

// turn is how many requests one side sends before it is the other's.
const turn = 400

type question struct{ network, addr, path, name, value string }

func (q question) url() string {
	if q.network == "unix" {
		return "http://x" + q.path
	}
	return "http://" + q.addr + q.path
}

// runner asks one question many times.
type runner struct {
	question
	http    *http.Client
	clients int
	spent   time.Duration

	mu    sync.Mutex
	times []time.Duration
}

func newRunner(q question, clients int, keep bool) *runner {
	return &runner{question: q, clients: clients, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, q.network, q.addr)
		},
		DisableKeepAlives: !keep, MaxIdleConnsPerHost: clients, DisableCompression: true,
	}}}
}

func (r *runner) run(b *testing.B, n int) {
	next := make(chan struct{}, n)
	for range n {
		next <- struct{}{}
	}
	close(next)
	begin := time.Now()
	var group sync.WaitGroup
	for range r.clients {
		group.Go(func() {
			mine := make([]time.Duration, 0, n/r.clients+1)
			for range next {
				begin := time.Now()
				if _, err := fetch(r.http, "GET", r.url(), r.name, r.value); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(begin))
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.times = append(r.times, mine...)
		})
	}
	group.Wait()
	r.spent += time.Since(begin)
}

func (r *runner) at(q float64) float64 {
	slices.Sort(r.times)
	return float64(r.times[int(q*float64(len(r.times)-1))].Nanoseconds()) / 1e3
}

func (r *runner) rps() float64 { return float64(len(r.times)) / r.spent.Seconds() }

func (r *runner) report(b *testing.B, bare *runner) {
	if b.Failed() {
		return
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(r.at(0.5), "p50-µs")
	b.ReportMetric(r.at(0.99), "p99-µs")
	b.ReportMetric(r.rps(), "rps")
	b.ReportMetric(r.at(0.5)/bare.at(0.5), "x-p50")
	b.ReportMetric(r.at(0.99)/bare.at(0.99), "x-p99")
	b.ReportMetric(r.rps()/bare.rps(), "x-rps")
}

func startBare(b *testing.B, network string, body []byte) string {
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(shortDir(b), "bare")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})}
	go srv.Serve(l)
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}
