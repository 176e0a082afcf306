package who

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

// TestMemoryOfManyCalls has one caller make many calls: what is remembered of them must
// not hold on to the blocks that they came in. Not parallel, for the heap is everybody's.
func TestMemoryOfManyCalls(t *testing.T) {
	spool := calls.NewSpool(t.TempDir())
	defer spool.Close()
	w := spool.Writer()
	const all = 100_000
	for i := range all {
		r := record.Record{
			Time: int64(i) * 7919 % all, EventSource: []byte("s3.amazonaws.com"), EventName: []byte("GetObject"), EventID: fmt.Appendf(nil, "%036d", i),
			Identity:          record.Identity{Type: []byte("AssumedRole"), PrincipalID: []byte("AROAEXAMPLE:zed-nb"), AccessKeyID: []byte("ASIAEXAMPLE")},
			RequestParameters: fmt.Appendf(nil, `{"bucketName":"data","key":"%0200d"}`, i%7),
		}
		if err := w.Add(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	index := trail.NewIndex(&evidence.Evidence{}, trail.Config{})
	for _, args := range [][]string{{"--by", "name", "-"}, {"--limit", "200", "-"}} {
		o, err := parse(args, t.Output(), now)
		if err != nil {
			t.Fatal(err)
		}
		before := inUse()
		p, reader := newPart(index, o), spool.Reader()
		for b := range spool.Blocks() {
			if err := p.read(reader, b); err != nil {
				t.Fatal(err)
			}
		}
		grown := int64(inUse()) - int64(before)
		t.Logf("%v: %d blocks, %d bytes more", args, spool.Blocks(), grown)
		if p.summary.Calls != all || grown > 5<<20 {
			t.Errorf("%v: %d calls, %d bytes more after them", args, p.summary.Calls, grown)
		}
		runtime.KeepAlive(p)
		runtime.KeepAlive(reader)
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
