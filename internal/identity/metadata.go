package identity

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// maxFileSize is the largest metadata file that is read, in bytes. Real ones
// have less than 2,000.
const maxFileSize = 64 << 10

// ErrIncomplete is wrapped by the error for a metadata file that is empty or ends
// in the middle of its JSON: somebody is still writing it, so ask again.
var ErrIncomplete = errors.New("the file is not completely written")

// ReadFile reads and parses the metadata file at path. It never blocks: path must
// be a regular file, not a symbolic link, of at most 64 KiB. A missing
// file is fs.ErrNotExist, one being written is ErrIncomplete.
func ReadFile(path string) (Notebook, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return Notebook{}, fmt.Errorf("%s: expected a regular file, found a symbolic link", path)
	}
	if err != nil {
		return Notebook{}, fmt.Errorf("reading the notebook's metadata: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Notebook{}, fmt.Errorf("reading the notebook's metadata: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Notebook{}, fmt.Errorf("%s: expected a regular file, found mode %s", path, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return Notebook{}, fmt.Errorf("reading the notebook's metadata: %w", err)
	}
	return Parse(path, data)
}

// Parse parses the content of a metadata file. Its errors begin with file and
// name the field, what was expected and what was found.
func Parse(file string, data []byte) (Notebook, error) {
	doc, err := document(file, data)
	if err != nil {
		return Notebook{}, err
	}
	r := &record{file: file}
	top := r.object("", doc)
	extra := r.object("AdditionalMetadata.", top["AdditionalMetadata"])

	arn, res := r.resource(top)
	nb := Notebook{
		Partition:        res.partition,
		Region:           res.region,
		Account:          res.account,
		DomainID:         r.text("DomainId", top["DomainId"], "a domain id such as d-examplealice1", legalDomain),
		UserProfile:      r.text("UserProfileName", top["UserProfileName"], wantName, legalName),
		Space:            r.text("SpaceName", top["SpaceName"], wantName, legalName),
		AppType:          r.text("AppType", top["AppType"], "an app type such as JupyterLab", appTypePattern.MatchString),
		ExecutionRoleARN: r.role(top["ExecutionRoleArn"], res),
		DataZoneUserID:   r.text("AdditionalMetadata.DataZoneUserId", extra["DataZoneUserId"], "a DataZone user id", dataZonePattern.MatchString),
		ResourceARN:      arn,
	}
	name := r.text("ResourceName", top["ResourceName"], wantName, legalName)
	switch {
	case r.err != nil:
	case unified(extra):
		nb.Surface = SurfaceUnifiedStudio
		nb.App = name
	case res.kind == "notebook-instance":
		r.notebookInstance(&nb, res, name)
	case res.kind == "app":
		r.app(&nb, res, name)
	default:
		r.fail("ResourceArn", wantResource, arn)
	}
	if r.err != nil {
		return Notebook{}, r.err
	}
	return nb, nil
}

const (
	wantName     = "1 to 63 letters, digits and hyphens, with no hyphen at either end"
	wantResource = "arn:PARTITION:sagemaker:REGION:ACCOUNT: and notebook-instance/NAME or app/DOMAIN/OWNER/TYPE/NAME"
)

var (
	appTypePattern  = lazyregexp.New(`^[A-Za-z0-9]{1,64}$`)
	dataZonePattern = lazyregexp.New(`^[A-Za-z0-9_+=,.@:-]{1,128}$`)
)

// document cuts the one JSON value out of data and tells unfinished from wrong.
func document(file string, data []byte) (json.RawMessage, error) {
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s: expected at most %d bytes", file, maxFileSize)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var doc json.RawMessage
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: %w: expected a JSON object, found %d bytes of one", file, ErrIncomplete, len(data))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: expected a JSON object: %w", file, err)
	}
	if rest := bytes.TrimSpace(data[dec.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("%s: expected nothing after the JSON object, found %.40q", file, rest)
	}
	return doc, nil
}

// record reads fields and keeps the first error.
type record struct {
	file string
	err  error
}

func (r *record) fail(field, want, found string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s: expected %s, found %.120q", r.file, field, want, found)
	}
}

// object splits an object into its fields by their exact names, which
// encoding/json's struct decoding would not insist on. Absent and null are empty.
// prefix is the object's own name and a dot, for errors.
func (r *record) object(prefix string, raw json.RawMessage) map[string]json.RawMessage {
	if absent(raw) && prefix != "" {
		return nil
	}
	if raw[0] != '{' {
		field, _ := strings.CutSuffix(prefix, ".")
		r.fail(cmp.Or(field, "the whole file"), "an object", jsonType(raw))
		return nil
	}
	fields := make(map[string]json.RawMessage)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.Token() // the brace; raw is valid JSON, so no call below can fail
	for dec.More() {
		token, _ := dec.Token()
		key, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			r.fail(prefix+key, "a JSON value", err.Error())
			return nil
		}
		if _, twice := fields[key]; twice {
			r.fail(fmt.Sprintf("%s%.80q", prefix, key), "each key once", "it twice")
			return nil
		}
		fields[key] = value
	}
	return fields
}

// text is a string field that is empty or passes legal.
func (r *record) text(field string, raw json.RawMessage, want string, legal func(string) bool) string {
	if absent(raw) {
		return ""
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		r.fail(field, "a string", jsonType(raw))
		return ""
	}
	if s != "" && !legal(s) {
		r.fail(field, want, s)
		return ""
	}
	return s
}

// resource reads ResourceArn and its newer twin, which may differ in case only.
func (r *record) resource(top map[string]json.RawMessage) (string, resource) {
	legal := func(s string) bool { _, ok := parseResource(s); return ok }
	arn := r.text("ResourceArn", top["ResourceArn"], wantResource, legal)
	twin := r.text("ResourceArnCaseSensitive", top["ResourceArnCaseSensitive"], wantResource, legal)
	if arn == "" {
		arn = twin
	}
	if arn == "" {
		r.fail("ResourceArn", wantResource, "")
	}
	if twin != "" && !strings.EqualFold(arn, twin) {
		r.fail("ResourceArnCaseSensitive", "the same as ResourceArn but for case", twin)
	}
	res, _ := parseResource(arn)
	return arn, res
}

func (r *record) role(raw json.RawMessage, res resource) string {
	legal := func(s string) bool {
		role, err := ParseRoleARN(s)
		return err == nil && role.Partition == res.partition && role.Account == res.account
	}
	want := fmt.Sprintf("the ARN of a role in partition %s and account %s, as in ResourceArn", res.partition, res.account)
	return r.text("ExecutionRoleArn", raw, want, legal)
}

// unified reports whether the additional metadata belongs to Unified Studio.
func unified(extra map[string]json.RawMessage) bool {
	for key, value := range extra {
		if strings.HasPrefix(key, "DataZone") && !absent(value) && string(value) != `""` {
			return true
		}
	}
	return false
}

func (r *record) notebookInstance(nb *Notebook, res resource, name string) {
	nb.Surface = SurfaceNotebookInstance
	if len(res.path) != 1 || !legalName(res.path[0]) {
		r.fail("ResourceArn", "one notebook instance's name of "+wantName, nb.ResourceARN)
		return
	}
	nb.InstanceName = cmp.Or(name, res.path[0])
	if !strings.EqualFold(nb.InstanceName, res.path[0]) {
		r.fail("ResourceName", "the name in ResourceArn, "+res.path[0], name)
	}
	for _, other := range []struct{ field, value string }{
		{"DomainId", nb.DomainID}, {"UserProfileName", nb.UserProfile}, {"SpaceName", nb.Space},
	} {
		if other.value != "" {
			r.fail(other.field, "nothing beside the ResourceArn of a notebook instance", other.value)
		}
	}
}

func (r *record) app(nb *Notebook, res resource, name string) {
	if len(res.path) != 4 || !legalDomain(res.path[0]) || !legalName(res.path[1]) ||
		!appTypePattern.MatchString(res.path[2]) || !legalName(res.path[3]) {
		r.fail("ResourceArn", wantResource, nb.ResourceARN)
		return
	}
	domain, owner, appType, app := res.path[0], res.path[1], res.path[2], res.path[3]
	nb.DomainID = cmp.Or(nb.DomainID, domain)
	nb.AppType = cmp.Or(nb.AppType, appType)
	if !strings.EqualFold(nb.DomainID, domain) {
		r.fail("DomainId", "the domain in ResourceArn, "+domain, nb.DomainID)
	}
	if !strings.EqualFold(nb.AppType, appType) {
		r.fail("AppType", "the app type in ResourceArn, "+appType, nb.AppType)
	}
	// The ARN has the app's real name; a published sample shortens ResourceName.
	nb.App = app
	if strings.EqualFold(name, app) {
		nb.App = name
	}
	switch {
	case nb.Space != "":
		nb.Surface = SurfaceStudioSpace
	case nb.UserProfile == "":
		r.fail("UserProfileName", "a name here or in SpaceName", "")
	case !strings.EqualFold(nb.UserProfile, owner):
		r.fail("UserProfileName", "the owner in ResourceArn, "+owner, nb.UserProfile)
	default:
		nb.Surface = SurfaceStudioProfile
	}
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// jsonType names the type of a valid JSON value.
func jsonType(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
