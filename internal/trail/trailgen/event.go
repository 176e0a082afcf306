package trailgen

import (
	"fmt"
	"strings"
	"time"
)

type role struct{ name, path, id, account string }

func (r role) arn() string { return "arn:aws:iam::" + r.account + ":role" + r.path + r.name }

// caller is what a userIdentity is made from.
type caller struct {
	kind      string // AssumedRole, IAMUser, AWSService, AWSAccount, Root or ""
	role      role
	session   string // role session name
	key       string
	user      string
	created   int64
	source    string
	invokedBy string
	scope     string
}

func stamp(at int64) string { return time.Unix(at, 0).UTC().Format(time.RFC3339) }

// identity returns the JSON of a userIdentity, in the shapes of real records.
func (c caller) identity() string {
	var b strings.Builder
	put := func(key, value string) {
		if value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%q", key, value)
	}
	put("type", c.kind)
	switch c.kind {
	case "AssumedRole":
		put("principalId", c.role.id+":"+c.session)
		put("arn", "arn:aws:sts::"+c.role.account+":assumed-role/"+c.role.name+"/"+c.session)
		put("accountId", c.role.account)
		put("accessKeyId", c.key)
		fmt.Fprintf(&b, `,"sessionContext":{"sessionIssuer":{"type":"Role","principalId":%q,"arn":%q,"accountId":%q,"userName":%q},"webIdFederationData":{},"attributes":{"creationDate":%q,"mfaAuthenticated":"false"}`,
			c.role.id, c.role.arn(), c.role.account, c.role.name, stamp(c.created))
		if c.source != "" {
			fmt.Fprintf(&b, `,"sourceIdentity":%q`, c.source)
		}
		b.WriteByte('}')
		if c.scope != "" {
			fmt.Fprintf(&b, `,"inScopeOf":{"sourceArn":%q,"issuerType":"AWS::SageMaker::TrainingJob"}`, c.scope)
		}
	case "IAMUser":
		put("principalId", "AIDA"+strings.ToUpper(c.user)+"EXAMPLE")
		put("arn", "arn:aws:iam::"+account+":user/"+c.user)
		put("accountId", account)
		put("accessKeyId", c.key)
		put("userName", c.user)
	case "Root":
		put("principalId", account)
		put("arn", "arn:aws:iam::"+account+":root")
		put("accountId", account)
	case "AWSAccount":
		principal := "AIDA" + strings.ToUpper(c.user) + "EXAMPLE"
		if c.session != "" {
			principal = c.role.id + ":" + c.session
		}
		put("principalId", principal)
		put("accountId", other)
	case "":
		put("accountId", account)
	}
	put("invokedBy", c.invokedBy)
	return "{" + b.String() + "}"
}

// event is one record to be made.
type event struct {
	at                int64
	by                caller
	service, action   string
	address           string
	request, response string // JSON; "" is null
	additional        string
	resource          string // ARN
	failure           string // error code
	shared            string // sharedEventID
	recipient         string
	expect            Expectation
	copied            bool // another account's copy replaces it
	drop              bool // it is never delivered
}

const agent = `Boto3/1.35.90 md/Botocore#1.35.90 ua/2.0 os/linux#5.10.230 md/arch#x86_64 lang/python#3.10.14 md/pyimpl#CPython cfg/retry-mode#legacy`

// text returns the record.
func (w *world) text(e *event) string {
	orNull := func(s string) string {
		if s == "" {
			return "null"
		}
		return s
	}
	host := e.service + ".amazonaws.com"
	userAgent := agent
	address := e.address
	if e.by.invokedBy != "" {
		address, userAgent = e.by.invokedBy, e.by.invokedBy
	}
	var b strings.Builder
	b.Grow(1400)
	fmt.Fprintf(&b, `{"eventVersion":"1.11","userIdentity":%s,"eventTime":"%s","eventSource":"%s","eventName":"%s","awsRegion":"%s","sourceIPAddress":"%s","userAgent":"%s",`,
		e.by.identity(), stamp(e.at), host, e.action, region, address, userAgent)
	if e.failure != "" {
		fmt.Fprintf(&b, `"errorCode":%q,"errorMessage":"User: someone is not authorized to perform: %s:%s with an explicit deny",`, e.failure, e.service, e.action)
	}
	fmt.Fprintf(&b, `"requestParameters":%s,"responseElements":%s,`, orNull(e.request), orNull(e.response))
	if e.additional != "" {
		fmt.Fprintf(&b, `"additionalEventData":%s,`, e.additional)
	}
	if e.resource != "" {
		fmt.Fprintf(&b, `"resources":[{"accountId":%q,"ARN":%q}],`, account, e.resource)
	}
	if e.shared != "" {
		fmt.Fprintf(&b, `"sharedEventID":%q,`, e.shared)
	}
	w.serial++
	fmt.Fprintf(&b, `"requestID":"%s","eventID":"%08x-%04x-4%03x-8%03x-%012x","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"%s","eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"%s.%s.amazonaws.com"}}`,
		w.uuid(), w.truth.id(e.expect), w.random.Uint32N(1<<16), w.random.Uint32N(1<<12), w.random.Uint32N(1<<12), w.serial, e.recipient, e.service, region)
	return b.String()
}

func (w *world) uuid() string {
	a, b := w.random.Uint64(), w.random.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff)
}

// emit puts a record into the delivery that it belongs to, sometimes a later one, and
// sometimes into two.
func (w *world) emit(e event) {
	if e.drop {
		return
	}
	if e.recipient == "" {
		e.recipient = account
	}
	text := w.text(&e)
	slot := w.slotNow
	if w.chance(60) {
		slot += 1 + w.random.IntN(maxLate)
		w.truth.Late++
	}
	w.put(e.recipient, slot, text)
	if e.copied {
		w.truth.Copies++
	} else {
		w.truth.Calls++
	}
	if w.chance(150) {
		w.put(e.recipient, min(slot+w.random.IntN(3), w.slotNow+maxLate), text)
		w.truth.Duplicates++
	}
}

func (w *world) put(recipient string, slot int, text string) {
	key := delivery{recipient, slot}
	w.pending[key] = append(w.pending[key], text)
}
