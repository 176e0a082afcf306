package calls

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

// Caller is what a record says about who called.
type Caller struct {
	Type      string // AssumedRole, IAMUser, AWSService, ...
	Principal string // principalId; AROA...:session for a role session
	ARN       string
	Account   string
	Key       string // access key id
	User      string // userName
	InvokedBy string // the service that made the call, on its own or for the caller
	Source    string // source identity
	Created   int64  // start of the session, Unix seconds; 0 when unknown
	Issuer    string // ARN of the role, with its path
	Person    string // Identity Center user that the call was made for
	Scope     string // ARN of what the credentials were issued to
}

// IsRoleSession reports whether the caller acted as a role. Another account's copy of
// a record may say no more than AWSAccount and the principal.
func (c *Caller) IsRoleSession() bool {
	return c.Type == "AssumedRole" || c.Type == "AWSAccount" && strings.Contains(c.Principal, ":")
}

// Session returns the role session name, "" when the caller is no role session.
func (c *Caller) Session() string {
	if !c.IsRoleSession() {
		return ""
	}
	if _, session, found := strings.Cut(c.Principal, ":"); found {
		return session
	}
	if _, resource, found := strings.Cut(c.ARN, ":assumed-role/"); found {
		if _, session, found := strings.Cut(resource, "/"); found {
			return session
		}
	}
	return ""
}

// Callers keeps each caller once, however many calls it made. The zero value is empty.
type Callers struct {
	known map[string]*Caller // by its text
	text  []byte
}

// Of returns the caller of a record.
func (k *Callers) Of(r *record.Record) *Caller {
	k.text = appendCaller(k.text[:0], &r.Identity)
	if c := k.known[string(k.text)]; c != nil {
		return c
	}
	if k.known == nil {
		k.known = make(map[string]*Caller)
	}
	text, c := string(k.text), new(Caller)
	_, _ = c.decode(text) // which is appendCaller's
	k.known[text] = c
	return c
}

// appendCaller appends the text of a caller, from which decode makes one.
func appendCaller(dst []byte, id *record.Identity) []byte {
	dst = binary.AppendVarint(dst, id.Session.Created)
	for _, field := range [...][]byte{
		id.Type, id.PrincipalID, id.ARN, id.AccountID, id.AccessKeyID, id.UserName, id.InvokedBy, id.Session.SourceIdentity, id.Session.IssuerARN, id.OnBehalfOf, id.InScopeOf,
	} {
		dst = appendField(dst, field)
	}
	return dst
}

// decode reads a caller, whose strings share the text's memory.
func (c *Caller) decode(text string) (rest string, err error) {
	if c.Created, text, err = cutNumber(text); err != nil {
		return "", err
	}
	for _, field := range [...]*string{
		&c.Type, &c.Principal, &c.ARN, &c.Account, &c.Key, &c.User, &c.InvokedBy, &c.Source, &c.Issuer, &c.Person, &c.Scope,
	} {
		if *field, text, err = cutField(text); err != nil {
			return "", err
		}
	}
	return text, nil
}

func appendField(dst, field []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(field))), field...)
}

var errText = errors.New("reading calls back: the temporary file has changed")

func cutNumber(text string) (n int64, rest string, err error) {
	u, size := uvarint(text)
	if size == 0 {
		return 0, "", errText
	}
	return int64(u>>1) ^ -int64(u&1), text[size:], nil
}

func cutField(text string) (field, rest string, err error) {
	length, size := uvarint(text)
	if size == 0 || length > uint64(len(text)-size) {
		return "", "", errText
	}
	return text[size : size+int(length)], text[size+int(length):], nil
}

// uvarint is binary.Uvarint for strings; the size is 0 when there is no number.
func uvarint(s string) (u uint64, size int) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		u |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return u, i + 1
		}
	}
	return 0, 0
}
