package cloudtrail

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxResults is how many events a page of LookupEvents holds at most.
const MaxResults = 50

// history is how far LookupEvents looks back.
const history = 90 * 24 * time.Hour

// Lookup is a request to LookupEvents, checked by [Lookup.Check].
type Lookup struct {
	Region     string
	Start, End time.Time // zero is open
	Key, Value string    // the one attribute; "" is none
	MaxResults int       // 0 is the most
	NextToken  string
}

// Error is a refusal of LookupEvents.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// attributes says for each attribute of LookupEvents what it is in a record.
var attributes = map[string]func(r *Record) []string{
	"EventId":     func(r *Record) []string { return []string{r.EventID} },
	"EventName":   func(r *Record) []string { return []string{r.EventName} },
	"ReadOnly":    func(r *Record) []string { return []string{strconv.FormatBool(r.ReadOnly)} },
	"Username":    func(r *Record) []string { return []string{r.username()} },
	"EventSource": func(r *Record) []string { return []string{r.EventSource} },
	"AccessKeyId": func(r *Record) []string { return []string{r.UserIdentity.AccessKeyID} },
	"ResourceType": func(r *Record) (types []string) {
		for _, resource := range r.Resources {
			types = append(types, resource.Type)
		}
		return types
	},
	"ResourceName": func(r *Record) (names []string) {
		for _, resource := range r.Resources {
			names = append(names, resource.ARN)
		}
		return names
	},
}

// username is the role session name, as LookupEvents calls it.
func (r *Record) username() string {
	_, session, _ := strings.Cut(r.UserIdentity.PrincipalID, ":")
	return session
}

// Check refuses what LookupEvents refuses, by the API reference.
func (l *Lookup) Check() *Error {
	_, known := attributes[l.Key]
	switch {
	case l.MaxResults < 0 || l.MaxResults > MaxResults:
		return &Error{"InvalidMaxResultsException", fmt.Sprintf("Max results must be between 1 and %d.", MaxResults)}
	case !l.Start.IsZero() && !l.End.IsZero() && l.Start.After(l.End):
		return &Error{"InvalidTimeRangeException", "The start time is after the end time."}
	case l.Key != "" && (!known || l.Value == ""):
		return &Error{"InvalidLookupAttributesException", "The lookup attribute is not valid."}
	}
	return nil
}

// Page is an answer of LookupEvents.
type Page struct {
	Events    []Event
	NextToken string `json:",omitempty"`
}

// Event is a record as LookupEvents gives it.
type Event struct {
	EventId, EventName, ReadOnly, EventSource, Username string
	AccessKeyId                                         string `json:",omitempty"`
	EventTime                                           int64
	Resources                                           []EventResource
	CloudTrailEvent                                     string
}

// EventResource is one resource of an [Event].
type EventResource struct{ ResourceType, ResourceName string }

// Lookup returns the management events of the last 90 days that were asked for, the
// newest first. A token goes with the other parameters of its first page; records that
// came since do not move the pages.
func (t *Trail) Lookup(l Lookup, now time.Time) (*Page, *Error) {
	if refused := l.Check(); refused != nil {
		return nil, refused
	}
	records := t.Since(0)
	next := len(records) - 1
	if l.NextToken != "" {
		var ok bool
		if next, ok = l.place(l.NextToken); !ok || next >= len(records) {
			return nil, &Error{"InvalidNextTokenException", "The token is not valid, or the other parameters are not those of the first call."}
		}
	}
	page := &Page{Events: []Event{}}
	for ; next >= 0; next-- {
		if !l.wants(&records[next], now) {
			continue
		}
		if len(page.Events) == l.size() {
			page.NextToken = l.token(next)
			break
		}
		event, err := records[next].event()
		if err != nil {
			return nil, &Error{"OperationNotPermittedException", err.Error()}
		}
		page.Events = append(page.Events, event)
	}
	return page, nil
}

func (l *Lookup) size() int {
	if l.MaxResults == 0 {
		return MaxResults
	}
	return l.MaxResults
}

func (l *Lookup) wants(r *Record, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, r.EventTime)
	switch {
	case err != nil, !r.ManagementEvent, r.AWSRegion != l.Region, at.Before(now.Add(-history)):
		return false
	case !l.Start.IsZero() && at.Before(l.Start), !l.End.IsZero() && at.After(l.End):
		return false
	}
	return l.Key == "" || slices.Contains(attributes[l.Key](r), l.Value)
}

// print tells the parameters of two requests apart, the token aside.
func (l *Lookup) print() string {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, l.Region, "\n", l.Start.Unix(), l.End.Unix(), l.MaxResults, "\n", l.Key, "\n", l.Value) // a hash never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

func (l *Lookup) token(next int) string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(next) + " " + l.print()))
}

func (l *Lookup) place(token string) (next int, ok bool) {
	text, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return 0, false
	}
	number, print, _ := strings.Cut(string(text), " ")
	next, err = strconv.Atoi(number)
	return next, err == nil && next >= 0 && print == l.print()
}

func (r *Record) event() (Event, error) {
	at, err := time.Parse(time.RFC3339, r.EventTime)
	if err != nil {
		return Event{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return Event{}, err
	}
	e := Event{
		EventId: r.EventID, EventName: r.EventName, ReadOnly: strconv.FormatBool(r.ReadOnly), EventSource: r.EventSource, Username: r.username(),
		AccessKeyId: r.UserIdentity.AccessKeyID, EventTime: at.Unix(), Resources: []EventResource{}, CloudTrailEvent: string(text),
	}
	for _, resource := range r.Resources {
		e.Resources = append(e.Resources, EventResource{resource.Type, resource.ARN})
	}
	return e, nil
}
