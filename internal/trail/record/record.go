// Package record reads CloudTrail records from a stream, in constant memory and
// several times as fast as encoding/json, because it takes only the fields that
// answer "who".
//
// It guarantees: every field it takes has the value that encoding/json would give
// it (keys matched exactly, the last of equal keys counts, a null or a value of
// another type is an absent one); no input makes it panic or hold more than
// [MaxRecord] bytes and a window; a broken record costs itself only, is reported
// with its offset, and the records after it are read. It does not guarantee the
// number of broken records: two broken neighbours may be reported as one.
//
// It accepts what CloudTrail's channels deliver, told apart by content: objects
// with a Records array, bare arrays, one record a line, concatenations of these;
// the output of lookup-events (the record is JSON text in CloudTrailEvent);
// EventBridge events (the record is detail); CloudWatch Logs output and
// subscription batches (the record is JSON text in message), with or without the
// time stamp that an export puts before each line.
//
// It is longer than most because it brings a JSON scanner of its own (scan.go, value.go):
// the standard library's takes several times as long, and cannot go on behind what is
// broken, which is reader.go's work.
package record

// Record is the projection of one CloudTrail record. The slices are views that
// the next call of [Reader.Next] overwrites; nil means absent.
type Record struct {
	Time int64 // eventTime, Unix seconds

	EventTime, EventSource, EventName, EventID  []byte
	SharedEventID, EventType, EventCategory     []byte
	AWSRegion, SourceIPAddress, UserAgent       []byte
	ErrorCode, ErrorMessage, RecipientAccountID []byte

	Identity Identity

	// JSON text, for Raw and String.
	RequestParameters, ResponseElements, AdditionalEventData, Resources []byte
}

// Identity is the projection of userIdentity.
type Identity struct {
	Type, PrincipalID, ARN, AccountID []byte
	AccessKeyID, UserName, InvokedBy  []byte
	OnBehalfOf                        []byte // onBehalfOf.userId
	InScopeOf                         []byte // inScopeOf.sourceArn
	Session                           Session
}

// Session is the projection of userIdentity.sessionContext.
type Session struct {
	SourceIdentity, EC2RoleDelivery []byte
	CreationDate                    []byte // attributes.creationDate
	Created                         int64  // the same in Unix seconds; 0 when absent
	IssuerARN, IssuerType           []byte // sessionIssuer
}

// level says inside which object a key was read.
type level uint8

const (
	atTop level = iota
	inIdentity
	inSession
	inAttributes
	inIssuer
	inScope
	onBehalf
)

// parser reads one record, or finds that an object is a container of records.
type parser struct {
	scanner
	rec Record

	detail, message []byte // what an envelope holds
	items           int    // index after the bracket of a container's array, or 0
	scratch         []byte
	unpacked        [layers][]byte // records that came as JSON text in a string
}

// layers is how deeply envelopes may be nested: CloudWatch Logs around EventBridge
// around a record, and one to spare.
const layers = 3

// slot is where a value goes: text when a string is wanted, raw when JSON text is,
// otherwise the object one level down if open is set.
type slot struct {
	text, raw *[]byte
	down      level
	open      bool
}

func (p *parser) slot(l level, key []byte) slot {
	id, s := &p.rec.Identity, &p.rec.Identity.Session
	switch l {
	case atTop:
		return p.topSlot(key)
	case inIdentity:
		return id.slot(key)
	case inSession:
		return s.slot(key)
	}
	switch { // objects of which one or two strings are taken
	case l == inAttributes && string(key) == "creationDate":
		return slot{text: &s.CreationDate}
	case l == inIssuer && string(key) == "arn":
		return slot{text: &s.IssuerARN}
	case l == inIssuer && string(key) == "type":
		return slot{text: &s.IssuerType}
	case l == inScope && string(key) == "sourceArn":
		return slot{text: &id.InScopeOf}
	case l == onBehalf && string(key) == "userId":
		return slot{text: &id.OnBehalfOf}
	}
	return slot{}
}

func (id *Identity) slot(key []byte) slot {
	switch string(key) {
	case "type":
		return slot{text: &id.Type}
	case "principalId":
		return slot{text: &id.PrincipalID}
	case "arn":
		return slot{text: &id.ARN}
	case "accountId":
		return slot{text: &id.AccountID}
	case "accessKeyId":
		return slot{text: &id.AccessKeyID}
	case "userName":
		return slot{text: &id.UserName}
	case "invokedBy":
		return slot{text: &id.InvokedBy}
	case "sessionContext":
		id.Session = Session{}
		return slot{down: inSession, open: true}
	case "inScopeOf":
		id.InScopeOf = nil
		return slot{down: inScope, open: true}
	case "onBehalfOf":
		id.OnBehalfOf = nil
		return slot{down: onBehalf, open: true}
	}
	return slot{}
}

func (s *Session) slot(key []byte) slot {
	switch string(key) {
	case "sourceIdentity":
		return slot{text: &s.SourceIdentity}
	case "ec2RoleDelivery":
		return slot{text: &s.EC2RoleDelivery}
	case "attributes":
		s.CreationDate = nil
		return slot{down: inAttributes, open: true}
	case "sessionIssuer":
		s.IssuerARN, s.IssuerType = nil, nil
		return slot{down: inIssuer, open: true}
	}
	return slot{}
}

func (p *parser) topSlot(key []byte) slot {
	r := &p.rec
	switch string(key) {
	case "userIdentity":
		r.Identity = Identity{}
		return slot{down: inIdentity, open: true}
	case "eventTime":
		return slot{text: &r.EventTime}
	case "eventSource":
		return slot{text: &r.EventSource}
	case "eventName":
		return slot{text: &r.EventName}
	case "eventID":
		return slot{text: &r.EventID}
	case "sharedEventID":
		return slot{text: &r.SharedEventID}
	case "eventType":
		return slot{text: &r.EventType}
	case "eventCategory":
		return slot{text: &r.EventCategory}
	case "awsRegion":
		return slot{text: &r.AWSRegion}
	case "sourceIPAddress":
		return slot{text: &r.SourceIPAddress}
	case "userAgent":
		return slot{text: &r.UserAgent}
	case "errorCode":
		return slot{text: &r.ErrorCode}
	case "errorMessage":
		return slot{text: &r.ErrorMessage}
	case "recipientAccountId":
		return slot{text: &r.RecipientAccountID}
	case "requestParameters":
		return slot{raw: &r.RequestParameters}
	case "responseElements":
		return slot{raw: &r.ResponseElements}
	case "additionalEventData":
		return slot{raw: &r.AdditionalEventData}
	case "resources":
		return slot{raw: &r.Resources}
	case "detail":
		return slot{raw: &p.detail}
	case "CloudTrailEvent", "message":
		return slot{raw: &p.message}
	}
	return slot{}
}

// holdsRecords reports whether an array under this key of a top-level object is one
// of records: in a delivered file, lookup-events, filter-log-events and a
// subscription batch.
func holdsRecords(key []byte) bool {
	switch string(key) {
	case "Records", "Events", "events", "logEvents":
		return true
	}
	return false
}

// reset prepares for the text b.
func (p *parser) reset(b []byte) {
	p.scanner = scanner{b: b}
	p.rec = Record{}
	p.detail, p.message, p.items = nil, nil, 0
	p.scratch = p.scratch[:0]
}

// fields reads the rest of the object whose brace is at i-1 and stores what the
// level asks for. It returns -1 with items set when the object turns out to be a
// container.
func (p *parser) fields(i, depth int, l level) int {
	if i = p.space(i); i < len(p.b) && p.b[i] == '}' {
		return i + 1
	}
	for {
		start, end, plain, v := p.key(i)
		if v < 0 {
			return -1
		}
		key := p.b[start:end]
		if !plain {
			key = p.unquoted(key)
		}
		if l == atTop && v < len(p.b) && p.b[v] == '[' && holdsRecords(key) && p.rec.EventName == nil {
			p.items = v + 1
			return -1
		}
		if i = p.store(v, depth, p.slot(l, key)); i < 0 {
			return -1
		}
		more := false
		if i, more = p.next(i, '}'); i < 0 || !more {
			return i
		}
	}
}

// store reads the value at v into its slot.
func (p *parser) store(v, depth int, to slot) int {
	if to.text != nil {
		*to.text = nil
		if v < len(p.b) && p.b[v] == '"' {
			end, plain := p.text(v + 1)
			if end < 0 {
				return -1
			}
			*to.text = p.b[v+1 : end]
			if !plain {
				*to.text = p.unquoted(p.b[v+1 : end])
			}
			return end + 1
		}
	}
	if to.open && v < len(p.b) && p.b[v] == '{' {
		return p.fields(v+1, depth+1, to.down)
	}
	end := p.value(v, depth)
	if to.raw != nil {
		*to.raw = nil
		if end >= 0 && p.b[v] != 'n' {
			*to.raw = p.b[v:end]
		}
	}
	return end
}

// unquoted returns the value of a string's text in memory of the parser's own.
func (p *parser) unquoted(text []byte) []byte {
	if p.scratch == nil {
		p.scratch = make([]byte, 0, 256) // an empty string is not an absent one
	}
	from := len(p.scratch)
	p.scratch = unquote(p.scratch, text)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// parse reads the object whose brace is at i of the text given to reset.
func (p *parser) parse(i int) int { return p.fields(i+1, 1, atTop) }

// unwrap replaces an envelope that was just read by the record inside.
func (p *parser) unwrap() {
	for layer := range layers {
		if p.rec.EventName != nil || p.detail == nil && p.message == nil {
			return
		}
		inner, from := p.detail, 0
		if inner == nil {
			if p.message[0] != '"' {
				return
			}
			p.unpacked[layer] = unquote(p.unpacked[layer][:0], p.message[1:len(p.message)-1])
			inner = p.unpacked[layer]
			from = (&scanner{b: inner}).space(0)
		}
		if from >= len(inner) || inner[from] != '{' {
			return
		}
		p.reset(inner)
		if p.parse(from) < 0 {
			p.rec, p.items = Record{}, 0
			return
		}
	}
}

// complete fills in the times and says what makes the object no CloudTrail record,
// "" if it is one.
func (p *parser) complete() (fault string) {
	r := &p.rec
	if r.EventName == nil || r.EventSource == nil || r.EventTime == nil {
		return "a JSON object without eventName, eventSource and eventTime"
	}
	ok := false
	if r.Time, ok = seconds(r.EventTime); !ok {
		return "eventTime is not a time"
	}
	r.Identity.Session.Created, _ = seconds(r.Identity.Session.CreationDate)
	return ""
}
