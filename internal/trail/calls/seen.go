package calls

import (
	"hash/maphash"
	"sync"
)

// Seen remembers strings by hash, 8 to 16 bytes each. Its methods may be called from
// several goroutines.
type Seen struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu    sync.Mutex
	table []uint64 // open addressing; 0 is free
	used  int
}

// NewSeen returns an empty set.
func NewSeen() *Seen { return &Seen{seed: maphash.MakeSeed()} }

// Add reports whether s is new. An empty string always is: it says nothing.
func (s *Seen) Add(id []byte) bool {
	if len(id) == 0 {
		return true
	}
	hash := max(maphash.Bytes(s.seed, id), 1)
	// The lowest bits choose the shard, those above them the place in it.
	part := &s.shards[hash%64]
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.addLocked(hash)
}

func (p *shard) addLocked(hash uint64) bool {
	if 4*p.used >= 3*len(p.table) {
		old := p.table
		p.table = make([]uint64, max(64, 2*len(old)))
		for _, h := range old {
			if h != 0 {
				p.table[p.place(h)] = h
			}
		}
	}
	at := p.place(hash)
	if p.table[at] == hash {
		return false
	}
	p.table[at] = hash
	p.used++
	return true
}

// place returns where hash is or should go.
func (p *shard) place(hash uint64) uint64 {
	mask := uint64(len(p.table) - 1)
	at := hash >> 6 & mask
	for p.table[at] != 0 && p.table[at] != hash {
		at = (at + 1) & mask
	}
	return at
}
