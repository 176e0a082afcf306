package credserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

// face is one way to ask for credentials: what all of them have in common.
type face struct {
	server *Server
	name   string // in metrics

	patience  time.Duration // longest wait for the first credential
	leastLife time.Duration // below which its clients ask again at each call
	idle      time.Duration // how long a connection may wait for its next request; 0: it has one only

	named        zap.Field // in log lines
	vends, short *metrics.Counter
	open         *metrics.Gauge
}

func (s *Server) newFace(f face) *face {
	label := `{face="` + f.name + `"}`
	f.server, f.named = s, zap.String("face", f.name)
	f.vends = s.metrics.GetOrCreateCounter("nbidentityd_vends_total" + label)
	f.short = s.metrics.GetOrCreateCounter("nbidentityd_short_vends_total" + label)
	f.open = s.metrics.GetOrCreateGauge("nbidentityd_connections"+label, nil)
	return &f
}

// gate puts f's gate before l.
func (f *face) gate(l net.Listener, containers bool, identify func(net.Conn) (caller.Caller, error)) *gate.Gate {
	return gate.New(l, gate.Config{
		Queues:     f.server.queues,
		Containers: containers,
		Places:     f.server.maxConns,
		Identify:   identify,
		Open:       f.open,
		Failed: func(err error) {
			f.countRefusal("caller_unknown")
			f.server.refusals.CallerUnknown(f.name, err)
		},
	})
}

// serve answers on g until ctx ends or the listener breaks, and returns when the
// last connection is done or has been cut off.
func (f *face) serve(ctx context.Context, g *gate.Gate, h http.Handler) error {
	srv := &http.Server{
		Handler:        h,
		ConnContext:    gate.WithConn,
		ReadTimeout:    readTimeout, // of headers as well: one timer less
		WriteTimeout:   f.patience + answerTimeout,
		IdleTimeout:    f.idle,
		MaxHeaderBytes: maxHeaderBytes,

		DisableGeneralOptionsHandler: true, // it would answer before the peer check
		ErrorLog:                     f.server.refusals.HTTP(),
	}
	srv.SetKeepAlivesEnabled(f.idle > 0)
	srv.ConnState = func(nc net.Conn, state http.ConnState) { nc.(*gate.Conn).Changed(state) }

	stopped := make(chan error, 1)
	serving, done := context.WithCancel(ctx)
	go func() {
		<-serving.Done()
		g.DropIdle() // nothing is owed to them
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := srv.Shutdown(limit)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	}()
	err := srv.Serve(g)
	done()
	err2 := <-stopped
	f.server.refusals.Flush()
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if err = errors.Join(err, err2); err != nil {
		return fmt.Errorf("serving on %s: %w", g.Addr(), err)
	}
	return nil
}

// admitted returns the connection of a request that its caller may make, of
// whatever kind, or nil after having refused it.
func (f *face) admitted(w http.ResponseWriter, r *http.Request) *gate.Conn {
	c := gate.ConnOf(r.Context())
	if c != nil && r.ContentLength != 0 {
		c.EndTurn() // net/http waits for a body before it writes the refusal
	}
	switch {
	case c == nil || !c.Allowed:
		f.refuse(w, r, http.StatusForbidden, errForbidden)
	case forwarded(r):
		f.refuse(w, r, http.StatusForbidden, errProxied)
	default:
		return c
	}
	return nil
}

// refuse answers r with err, counts it and sees to its line in the log.
func (f *face) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	code, message := explain(err)
	f.countRefusal(code)
	if c := gate.ConnOf(r.Context()); c != nil {
		f.server.refusals.Refused(f.name, c.Caller, code, cause(err))
	} else {
		f.server.log.Error("request without a peer refused", zap.String("face", f.name))
	}
	refuse(w, status, code, message)
}
