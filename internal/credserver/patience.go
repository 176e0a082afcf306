package credserver

import (
	"context"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

// patientContext ends some time after somebody first waits for it. A provider
// that answers from memory waits for nothing, and then no timer is set: setting
// and stopping one is a good part of what an answer costs.
type patientContext struct {
	context.Context
	patience time.Duration

	mu     sync.Mutex
	armed  context.Context // nil: nobody waits
	disarm context.CancelFunc
}

func (p *patientContext) arm() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed == nil {
		if c := gate.ConnOf(p.Context); c != nil {
			c.EndTurn()
		}
		p.armed, p.disarm = context.WithTimeout(p.Context, p.patience)
	}
	return p.armed
}

func (p *patientContext) Done() <-chan struct{} { return p.arm().Done() }

func (p *patientContext) Deadline() (time.Time, bool) { return p.arm().Deadline() }

func (p *patientContext) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed == nil {
		return p.Context.Err()
	}
	return p.armed.Err()
}

// cancel frees what waiting has taken.
func (p *patientContext) cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.disarm != nil {
		p.disarm()
	}
}
