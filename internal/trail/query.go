package trail

import (
	"slices"
	"sort"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
)

// grantAnswer is who stands behind a Lake Formation grant. Several grants of one
// session must agree.
type grantAnswer struct {
	answer Answer
	split  []string // the names, when they do not agree
}

// addGrants decides who stands behind each grant: the caller for whom the engine
// asked, or whoever started the query.
func (x *Index) addGrants() {
	starters := make(map[string][]*evidence.Query)
	for i := range x.evidence.Queries {
		q := &x.evidence.Queries[i]
		starters[q.Query] = append(starters[q.Query], q)
	}
	for i := range x.evidence.Grants {
		g := &x.evidence.Grants[i]
		behind := grantAnswer{answer: x.caller(g.Caller)}
		if queries := starters[g.Query]; g.Query != "" {
			for _, q := range queries {
				behind = behind.and(x.caller(q.Caller))
			}
		}
		if g.ID != "" {
			x.granted[g.ID] = behind
		}
		if g.Session == "" {
			continue
		}
		if other, ok := x.grants[g.Session]; ok {
			behind = other.join(behind)
		}
		x.grants[g.Session] = behind
	}
}

// join is what is known when both are, whichever came first.
func (g grantAnswer) join(other grantAnswer) grantAnswer {
	if other.split == nil {
		return g.and(other.answer)
	}
	for _, name := range other.split {
		g = g.and(Answer{Name: name})
	}
	return g
}

// and joins what is known with another answer.
func (g grantAnswer) and(a Answer) grantAnswer {
	switch {
	case a.Name == "" && (g.split != nil || g.answer.Name != ""):
		return g
	case g.split != nil:
		if !slices.Contains(g.split, a.Name) {
			g.split = append(slices.Clone(g.split), a.Name)
			slices.Sort(g.split)
		}
		return g
	case g.answer.Name == "":
		return grantAnswer{answer: a}
	case g.answer.Name != a.Name:
		names := []string{g.answer.Name, a.Name}
		slices.Sort(names)
		return grantAnswer{split: names}
	}
	return g
}

// byLakeFormation names whoever started the query for which Lake Formation gave access,
// for the grant itself and for the S3 calls made under it.
func (x *Index) byLakeFormation(c *calls.Call, a *Answer) {
	behind, ok := x.granted[c.ID]
	if !ok {
		behind, ok = x.grants[c.Caller.Session()]
	}
	switch {
	case !ok:
	case behind.split != nil:
		*a = Answer{Reason: Ambiguous, Candidates: behind.split}
	case behind.answer.Name != "":
		*a = behind.answer
		a.Rung, a.Escape = RungLakeFormation, NoEscape
	case behind.answer.Reason != "":
		*a = behind.answer
		a.Escape = NoEscape
	}
}

// Query is an Athena query with what it was given access to.
type Query struct {
	evidence.Query
	Answer Answer
	Grants []evidence.Grant
}

// Queries returns the queries that were started, the newest first, with the grants made
// for them. Grants of other engines stand behind a query without a text.
func (x *Index) Queries() []Query {
	byID := make(map[string]int)
	var queries []Query
	for _, q := range x.evidence.Queries {
		if _, known := byID[q.Query]; known {
			continue
		}
		byID[q.Query] = len(queries)
		queries = append(queries, Query{Query: q, Answer: x.caller(q.Caller)})
	}
	for _, g := range x.evidence.Grants {
		id := g.Query
		if id == "" {
			id = g.ID
		}
		at, known := byID[id]
		if !known {
			at = len(queries)
			byID[id] = at
			queries = append(queries, Query{Query: evidence.Query{At: g.At, Query: g.Query, Caller: g.Caller}, Answer: x.granted[g.ID].answer})
		}
		queries[at].Grants = append(queries[at].Grants, g)
	}
	sort.SliceStable(queries, func(i, j int) bool { return queries[i].At > queries[j].At })
	return queries
}

// opening is somebody opening a notebook.
type opening struct {
	at   int64
	name string
}

// place is where a notebook is. Accounts and regions have notebooks of the same name.
type place struct{ account, region string }

func (x *Index) addOpenings() {
	for _, o := range x.evidence.Openings { // in order of time
		person := x.caller(o.Caller)
		if person.Name == "" {
			continue
		}
		if x.openings[o.Name] == nil {
			x.openings[o.Name] = make(map[place][]opening)
		}
		at := place{o.Account, o.Region}
		x.openings[o.Name][at] = append(x.openings[o.Name][at], opening{o.At, person.Name})
	}
}

// opener returns who opened the notebook of a name last before a call, "" when there are
// notebooks of that name in the caller's account that different people opened.
func (x *Index) opener(name string, c *calls.Call) (person string, openedAt int64) {
	for place, openings := range x.openings[name] {
		if place.account != "" && c.Caller.Account != "" && place.account != c.Caller.Account {
			continue
		}
		i := sort.Search(len(openings), func(i int) bool { return openings[i].at > c.Time })
		if i == 0 {
			continue
		}
		last := openings[i-1]
		if person != "" && person != last.name {
			return "", 0
		}
		person, openedAt = last.name, max(openedAt, last.at)
	}
	return person, openedAt
}
