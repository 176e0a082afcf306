// Package calls holds what the trail says about API calls, once per call and in
// little memory.
//
// It guarantees: a call delivered twice is kept once ([Seen]); what was put into a
// [Spool] comes back unchanged, without order, and takes at most [MemoryLimit] bytes
// of memory, the rest being in a temporary file that has no name. A call is one of two
// by the hash of its event ID, 64 bits with a random seed: among a hundred million
// records one is lost with a chance of 1 in 4,000.
package calls

import (
	"bytes"
	"unicode/utf8"

	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

// Call is one API call. Strings are "" when the record does not say.
type Call struct {
	Time     int64  // Unix seconds
	Service  string // such as s3.amazonaws.com
	Action   string // such as GetObject
	Region   string
	Address  string
	Error    string
	Resource string  // what was called upon, as well as the parameters tell
	Account  string  // that received the record
	ID       string  // of the event
	Caller   *Caller // shared with other calls; never nil
}

// strings lists the fields in the order in which they are kept.
func (c *Call) strings() [fieldCount]*string {
	return [...]*string{&c.Service, &c.Action, &c.Region, &c.Address, &c.Error, &c.Resource, &c.Account, &c.ID}
}

const (
	fieldCount    = 8
	resourceField = 5 // in the order of Call.strings
)

// views returns the fields of a record in the order of Call.strings, without the
// resource.
func views(r *record.Record) [fieldCount][]byte {
	return [...][]byte{r.EventSource, r.EventName, r.AWSRegion, r.SourceIPAddress, r.ErrorCode, nil, r.RecipientAccountID, r.EventID}
}

const maxResource = 300 // bytes

// appendResource appends what a call was made upon: for S3 the object, otherwise the
// first ARN that the record lists, otherwise the parameter whose name looks most like
// it.
func appendResource(dst []byte, r *record.Record) []byte {
	s3 := string(r.EventSource) == "s3.amazonaws.com"
	if !s3 {
		if arn := listedARN(r.Resources); arn != nil {
			return clip(record.AppendString(dst, arn))
		}
	}
	var bucket, object []byte
	var byRank [3][]byte
	for key, value := range record.Fields(r.RequestParameters) {
		switch {
		case s3 && string(key) == "bucketName":
			bucket = value
		case s3 && string(key) == "key":
			object = value
		}
		if rank := rankOf(key); rank >= 0 && len(value) > 2 && value[0] == '"' && byRank[rank] == nil {
			byRank[rank] = value
		}
	}
	if bucket != nil {
		dst = record.AppendString(append(dst, "s3://"...), bucket)
		return clip(record.AppendString(append(dst, '/'), object))
	}
	if s3 {
		if arn := listedARN(r.Resources); arn != nil {
			return clip(record.AppendString(dst, arn))
		}
	}
	for _, value := range byRank {
		if value != nil {
			return clip(record.AppendString(dst, value))
		}
	}
	return dst
}

// listedARN returns the JSON text of the first ARN in a record's resources.
func listedARN(resources []byte) []byte {
	for element := range record.Elements(resources) {
		if arn := record.Raw(element, "ARN"); len(arn) > 2 {
			return arn
		}
	}
	return nil
}

// rankOf says how much a parameter's name looks like that of the thing called upon:
// 0 is most, -1 not at all.
func rankOf(key []byte) int {
	has := func(suffix string) bool {
		return len(key) >= len(suffix) && bytes.EqualFold(key[len(key)-len(suffix):], []byte(suffix))
	}
	switch {
	case string(key) == "roleArn" || string(key) == "kmsKeyArn": // what is used, not what is called upon
		return 2
	case has("arn"):
		return 0
	case has("sessionName"):
		return -1
	case has("name"):
		return 1
	case has("id") && string(key) != "clientRequestToken":
		return 2
	}
	return -1
}

func clip(text []byte) []byte {
	if len(text) <= maxResource {
		return text
	}
	text = text[:maxResource]
	for len(text) > maxResource-utf8.UTFMax && !utf8.RuneStart(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	if len(text) > 0 && text[len(text)-1] >= utf8.RuneSelf {
		text = text[:len(text)-1]
	}
	return append(text, "…"...)
}
