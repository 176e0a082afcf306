package fakeaws

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// lookupQuota is how many LookupEvents calls a second CloudTrail answers for an account
// and region, by the API reference.
const lookupQuota = 2

// lookupEvents is cloudtrail:LookupEvents.
func (x *exchange) lookupEvents() (answer, *wire.Error) {
	if !x.withinLookupQuota() {
		return answer{}, wire.Throttled(x.call.Protocol)
	}
	if failure := x.authorize(x.call.Action, "*", nil); failure != nil {
		return answer{}, failure
	}
	request, failure := readLookup(x.call)
	if failure != nil {
		return answer{}, failure
	}
	request.Region = x.scope.Region
	page, refused := x.trail.Lookup(request, x.now)
	if refused != nil {
		return answer{}, &wire.Error{Status: 400, Code: refused.Code, Message: refused.Message}
	}
	body, err := json.Marshal(page)
	if err != nil { // plain structs: cannot happen
		return answer{}, wire.Failed(x.call.Protocol, 500)
	}
	return answer{contentType: x.call.Type, body: body}, nil
}

// withinLookupQuota counts a LookupEvents call, unless it is one too many.
func (x *exchange) withinLookupQuota() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	last, now := x.lookups[x.scope.Region], x.now.Unix()
	if last.second != now {
		last = lookups{second: now}
	}
	if last.count == lookupQuota {
		return false
	}
	last.count++
	x.lookups[x.scope.Region] = last
	return true
}

// lookups counts the LookupEvents calls that were answered in a second.
type lookups struct {
	second int64
	count  int
}

// readLookup reads the members of a LookupEvents request.
func readLookup(c *wire.Call) (l cloudtrail.Lookup, failure *wire.Error) {
	wrong := func(member string) *wire.Error {
		return &wire.Error{Status: 400, Code: "SerializationException", Message: "Member " + member + " is of another type"}
	}
	for name, value := range c.Body {
		ok := true
		switch name {
		case "StartTime":
			l.Start, ok = epoch(value)
		case "EndTime":
			l.End, ok = epoch(value)
		case "MaxResults":
			if l.MaxResults, ok = whole(value); ok && l.MaxResults == 0 {
				l.MaxResults = -1 // refused: no limit is to leave the member out
			}
		case "NextToken":
			l.NextToken, ok = value.(string)
		case "LookupAttributes":
			list, isList := value.([]any)
			if len(list) > 1 {
				return l, &wire.Error{Status: 400, Code: "InvalidLookupAttributesException", Message: "Only one lookup attribute is allowed."}
			}
			ok = isList
			for _, item := range list {
				attribute, _ := item.(map[string]any)
				l.Key, _ = attribute["AttributeKey"].(string)
				l.Value, _ = attribute["AttributeValue"].(string)
				ok = isList && l.Key != ""
			}
		}
		if !ok {
			return l, wrong(name)
		}
	}
	return l, nil
}

// epoch reads a JSON 1.1 timestamp.
func epoch(v any) (time.Time, bool) {
	seconds, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	_, isNumber := v.(json.Number)
	return time.UnixMilli(int64(seconds * 1000)), err == nil && isNumber
}

func whole(v any) (int, bool) {
	n, isNumber := v.(json.Number)
	i, err := strconv.Atoi(n.String())
	return i, isNumber && err == nil
}
