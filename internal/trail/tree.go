package trail

import (
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
)

// Node is a set of credentials, with those that were obtained by it.
type Node struct {
	At       int64  // when they were issued, Unix seconds; 0 when not in the trail
	Key      string // access key id
	Role     string // ARN, "" for a user's own
	Session  string // role session name, or the user
	Address  string // that asked for them
	Answer   Answer // who holds them
	Children []*Node
}

// deepest is how many sessions of a chain stand in one tree. A session may go on to
// another as often as somebody likes, and thousands of levels can be neither indented
// nor written as JSON.
const deepest = 100

// Tree returns all credentials that were issued, and those that asked for them, as
// trees of chains, the latest root first. A longer chain goes on in another tree.
func (x *Index) Tree() []*Node {
	nodes := make([]*Node, len(x.sessions))
	for i := range x.sessions {
		s := &x.sessions[i]
		nodes[i] = &Node{At: s.At, Key: s.Key, Role: s.Role, Session: s.Session, Address: s.Address, Answer: s.verdict.answer(RungKey)}
	}
	var roots []*Node
	outside := make(map[calls.Caller]*Node) // holders of credentials that were issued elsewhere
	for i, place := range x.places() {
		s := &x.sessions[i]
		switch {
		case place > 1 && place%deepest != 1:
			parent := nodes[s.parent]
			parent.Children = append(parent.Children, nodes[i])
			continue
		case byService(s.Caller):
			roots = append(roots, nodes[i])
			continue
		}
		holder := outside[*s.Caller]
		if holder == nil {
			c := s.Caller
			answer := x.caller(c)
			holder = &Node{Key: c.Key, Role: c.Issuer, Session: c.Session(), Answer: answer}
			if holder.Session == "" {
				holder.Session = answer.Name
			}
			outside[*s.Caller] = holder
			roots = append(roots, holder)
		}
		holder.Children = append(holder.Children, nodes[i])
	}
	slices.SortStableFunc(roots, func(a, b *Node) int {
		if at := latest(b) - latest(a); at != 0 {
			return int(max(-1, min(1, at)))
		}
		return strings.Compare(a.Key+a.Session, b.Key+b.Session)
	})
	return roots
}

// circular is the place of a session whose origin comes back to itself.
const circular = -1

// places returns which one of its chain each session is, from 1.
func (x *Index) places() []int32 {
	places := make([]int32, len(x.sessions))
	var chain []int32
	for i := range x.sessions {
		at := int32(i)
		for ; at != none && places[at] == 0; at = x.sessions[at].parent {
			places[at] = circular // unless its beginning is found
			chain = append(chain, at)
		}
		place := int32(0)
		if at != none {
			place = places[at]
		}
		for ; len(chain) > 0; chain = chain[:len(chain)-1] {
			if place != circular {
				place++
			}
			places[chain[len(chain)-1]] = place
		}
	}
	return places
}

// latest is when credentials were issued, or the first that they asked for.
func latest(n *Node) int64 {
	if n.At == 0 && len(n.Children) > 0 {
		return n.Children[0].At
	}
	return n.At
}
