// Package cloudtrail writes what AWS CloudTrail would have written.
//
// It guarantees the shape of event version 1.11 as documented in "CloudTrail
// record contents" and "CloudTrail userIdentity element": the order and
// spelling of keys, sourceIdentity as a sibling of attributes and
// sessionIssuer, null (not absent) request parameters and response elements,
// and the S3 object names of delivered files. It does not guarantee delivery
// delays, duplicates or reordering: records appear once and in call order.
package cloudtrail

import (
	"encoding/json"
	"time"
)

// Version is the eventVersion of every record.
const Version = "1.11"

// Hidden stands where a record would hold a session token. CloudTrail uses
// the same words for other withheld values.
const Hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"

// Record is one CloudTrail event. RequestParameters and ResponseElements are
// rendered as null when nil, as AWS does for a denied call.
type Record struct {
	EventVersion        string       `json:"eventVersion"`
	UserIdentity        UserIdentity `json:"userIdentity"`
	EventTime           string       `json:"eventTime"` // RFC 3339, UTC, whole seconds
	EventSource         string       `json:"eventSource"`
	EventName           string       `json:"eventName"`
	AWSRegion           string       `json:"awsRegion"`
	SourceIPAddress     string       `json:"sourceIPAddress"`
	UserAgent           string       `json:"userAgent"`
	ErrorCode           string       `json:"errorCode,omitempty"`
	ErrorMessage        string       `json:"errorMessage,omitempty"`
	RequestParameters   any          `json:"requestParameters"`
	ResponseElements    any          `json:"responseElements"`
	AdditionalEventData any          `json:"additionalEventData,omitempty"`
	RequestID           string       `json:"requestID"`
	EventID             string       `json:"eventID"`
	ReadOnly            bool         `json:"readOnly"`
	Resources           []Resource   `json:"resources,omitempty"`
	EventType           string       `json:"eventType"`
	ManagementEvent     bool         `json:"managementEvent"`
	RecipientAccountID  string       `json:"recipientAccountId"`
	SharedEventID       string       `json:"sharedEventID,omitempty"`
	EventCategory       string       `json:"eventCategory"`
	TLSDetails          *TLSDetails  `json:"tlsDetails,omitempty"`
}

// UserIdentity says who made the call. A call by an AWS service for itself
// holds Type and InvokedBy only.
type UserIdentity struct {
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
	InvokedBy      string          `json:"invokedBy,omitempty"`
}

// SessionContext describes the role session that signed the call.
type SessionContext struct {
	SessionIssuer  SessionIssuer `json:"sessionIssuer"`
	Attributes     Attributes    `json:"attributes"`
	SourceIdentity string        `json:"sourceIdentity,omitempty"`
}

// SessionIssuer is the role behind a session. ARN keeps the role's path.
type SessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// Attributes of a session. CreationDate equals the eventTime of the
// AssumeRole call that made the session.
type Attributes struct {
	CreationDate     string `json:"creationDate"`
	MFAAuthenticated string `json:"mfaAuthenticated"`
}

// Resource names what a call touched.
type Resource struct {
	AccountID string `json:"accountId,omitempty"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

// TLSDetails is present for calls that came over TLS.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion"`
	CipherSuite              string `json:"cipherSuite"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
}

// AssumeRoleParameters are the requestParameters of a granted AssumeRole.
type AssumeRoleParameters struct {
	IncomingTransitiveTags map[string]string `json:"incomingTransitiveTags,omitempty"`
	Tags                   []Tag             `json:"tags,omitempty"`
	RoleARN                string            `json:"roleArn"`
	RoleSessionName        string            `json:"roleSessionName"`
	SourceIdentity         string            `json:"sourceIdentity,omitempty"`
	ExternalID             string            `json:"externalId,omitempty"`
	SerialNumber           string            `json:"serialNumber,omitempty"`
	Policy                 string            `json:"policy,omitempty"`
	PolicyARNs             []PolicyARN       `json:"policyArns,omitempty"`
	TransitiveTagKeys      []string          `json:"transitiveTagKeys,omitempty"`
	DurationSeconds        int               `json:"durationSeconds,omitempty"` // only when the caller sent it
}

// Tag is one session tag.
type Tag struct {
	Value string `json:"value"`
	Key   string `json:"key"`
}

// PolicyARN names one managed session policy.
type PolicyARN struct {
	ARN string `json:"arn"`
}

// AssumeRoleResponse are the responseElements of a granted AssumeRole.
type AssumeRoleResponse struct {
	Credentials      IssuedCredentials `json:"credentials"`
	AssumedRoleUser  *AssumedRoleUser  `json:"assumedRoleUser,omitempty"`
	PackedPolicySize int               `json:"packedPolicySize,omitempty"`
	SourceIdentity   string            `json:"sourceIdentity,omitempty"`
}

// IssuedCredentials is what a record says of issued credentials: never the
// secret key; the token is always [Hidden].
type IssuedCredentials struct {
	AccessKeyID  string `json:"accessKeyId"`
	SessionToken string `json:"sessionToken"`
	Expiration   string `json:"expiration"` // see [Expiration]
}

// AssumedRoleUser names the new session. ARN has no role path.
type AssumedRoleUser struct {
	AssumedRoleID string `json:"assumedRoleId"`
	ARN           string `json:"arn"`
}

// Time renders an eventTime or creationDate.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Expiration renders the expiration of issued credentials, the one time that
// CloudTrail writes in words: "Oct 2, 2019, 11:12:29 PM".
func Expiration(t time.Time) string { return t.UTC().Format("Jan 2, 2006, 3:04:05 PM") }

// Line renders r as one line of JSON, with a newline.
func (r Record) Line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
