package credserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/document"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

// credential is a checked value of the provider.
type credential struct {
	*document.Set
	audit *zap.Logger // of the lines that say who got it: what they share is laid down once
}

// vend returns the credential to hand to c's caller, having recorded it, or a
// refusal.
func (f *face) vend(ctx context.Context, c *gate.Conn) (*credential, error) {
	what, err := f.server.current(ctx, f.patience)
	if err != nil {
		f.server.failures.Add(1)
		return nil, err
	}
	f.server.vends.Add(1)
	f.vends.Inc()
	if time.Until(what.Expires) < f.leastLife {
		f.short.Inc()
	}
	what.audit.Info("credentials vended", c.Fields(f.named)...)
	return what, nil
}

// current asks the provider, which may take so long to have its first
// credential, and checks what it says.
func (s *Server) current(ctx context.Context, patience time.Duration) (*credential, error) {
	waiting := &patientContext{Context: ctx, patience: patience}
	defer waiting.cancel()
	value, err := s.credentials.Retrieve(waiting)
	if err != nil {
		var coded coder
		if waiting.Err() != nil && !errors.As(err, &coded) {
			return nil, &refusal{code: "not_ready", message: "there is no credential yet; ask again in a few seconds", cause: err}
		}
		return nil, err
	}
	c := s.latest.Load()
	if c == nil || !c.Of(value) {
		set, err := document.New(value)
		if err != nil {
			return nil, &refusal{code: "failed", message: err.Error()}
		}
		c = &credential{set, s.audit.With(zap.String("key_id_suffix", set.KeySuffix()), zap.Time("expires", set.Expires))}
		s.latest.Store(c)
	}
	if c.Expired() {
		return nil, &refusal{code: "expired", message: fmt.Sprintf("the last credential expired at %s and none has replaced it", c.Expires.Format(time.RFC3339))}
	}
	return c, nil
}

// countRefusal wants a code that satisfies validCode.
func (f *face) countRefusal(code string) {
	f.server.metrics.GetOrCreateCounter(`nbidentityd_refusals_total{face="` + f.name + `",code="` + code + `"}`).Inc()
}

func (s *Server) register(version string) {
	s.metrics.GetOrCreateGauge("nbidentityd_credential_seconds_left", func() float64 {
		c := s.report().Credential
		if c == nil {
			return 0
		}
		return max(0, time.Until(c.Expires.Round(0)).Seconds())
	})
	s.metrics.GetOrCreateGauge("nbidentityd_build_info{version="+strconv.Quote(version)+",go_version="+strconv.Quote(runtime.Version())+"}",
		func() float64 { return 1 })
}
