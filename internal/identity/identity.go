// Package identity says who this notebook is and how that is written in a
// session name, both ways.
//
// It has two halves. [ReadFile] and [Parse] turn the file that SageMaker puts on
// every notebook, /opt/ml/metadata/resource-metadata.json, into a [Notebook].
// [Template] turns a [Subject], the name that CloudTrail shall show, into an STS
// session name, and a session name back into the fields of the subject.
//
// # The metadata file
//
// AWS documents a few samples of the file and no schema, and says that it may
// gain keys. So every key is optional unless nothing can be concluded without
// it, unknown keys are skipped at any depth, null and "" count as absent, and
// these rules decide what the machine is:
//
//   - AdditionalMetadata with a DataZone key: Unified Studio.
//   - A notebook-instance ARN: a classic notebook instance. Its name is
//     ResourceName, which keeps the capitals that AWS drops from the ARN; the
//     two must otherwise agree.
//   - An app ARN with SpaceName: a space of Studio or Studio Classic. The file does
//     not say whether the space is private or shared, so this package does not.
//     The ARN's owner is not compared with SpaceName: the published sample of a
//     shared space has a profile's name there.
//   - An app ARN with UserProfileName alone: an app of that user profile.
//
// In Studio, ResourceName is the name of an app and is never an identity. Known
// keys are checked against the alphabets that the SageMaker and IAM models give, so
// a control character, a path trick or an over-long name is an error that names
// file and field. A key given twice is an error, because JSON readers disagree
// about which one counts. The execution role must be of the partition and account
// of the resource. Partitions and regions that are unknown today are accepted if
// well-formed.
//
// The package does not judge who wrote the file. SageMaker Studio mounts it
// read-only; on a notebook instance root can change it.
//
// # Session names
//
// STS takes 2 to 64 of the characters A-Z a-z 0-9 _ + = , . @ - as role session
// name and as source identity. Names of notebook instances, user profiles,
// spaces, apps and domains have 1 to 63 of A-Z a-z 0-9 and -, so none of
// _ + = , . @ is ever part of one. A template must separate its placeholders by
// one of those six, and that alone makes it reversible.
//
//   - A one-character name is legal for SageMaker and too short for STS. A rendering
//     of one character, which only the template {name} can give, becomes "nb_"
//     and the character: x is written nb_x. No other name is written so.
//   - A rendering over 64 characters becomes its first 47, "_" and the first 16
//     hexadecimal digits of its SHA-256. Two subjects share such a name only if 64
//     bits of SHA-256 collide. It cannot be parsed. The
//     one kind of rendering that would look like it without being too long (64
//     characters ending in _ and 16 such digits) is shortened too, so a shortened
//     name is never taken for a full one. The template {name} never shortens.
//   - A field that the subject does not have, such as the space of a notebook
//     instance, is written as nothing. The name is never empty.
//
// Two subjects that differ in a field of the template never have the same
// session name. Those that differ only in other fields do: under {name} a shared
// space called bob and a user profile called bob look alike, and so do notebook
// instances of one name in two regions. Where users may choose names of spaces, put
// {kind} into the template. A notebook called SageMaker has, under {name}, the
// session name that AWS gives to unattributed sessions.
//
// The package is longer than most because both halves rest on one alphabet of
// names.
package identity

import (
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// Surface is the kind of SageMaker product that the machine belongs to.
type Surface string

// The surfaces.
const (
	SurfaceNotebookInstance Surface = "notebook-instance"
	SurfaceStudioProfile    Surface = "studio-profile" // an app that belongs to a user profile
	SurfaceStudioSpace      Surface = "studio-space"   // an app in a private or shared space
	SurfaceUnifiedStudio    Surface = "unified-studio"
)

// Notebook is what the metadata file says about this machine. Fields that the
// file leaves out, or that the surface does not have, are empty.
type Notebook struct {
	Surface   Surface
	Partition string // aws, aws-cn, …
	Region    string
	Account   string // 12 digits

	InstanceName string // notebook instances only

	DomainID    string
	UserProfile string // as the file says; in a space usually empty
	Space       string
	AppType     string // KernelGateway, JupyterLab, …; spelled as in the file
	App         string

	ExecutionRoleARN string
	DataZoneUserID   string // Unified Studio only
	ResourceARN      string // spelled as in the file: AWS may have dropped capitals
}

// Kind is what a name stands for.
type Kind string

// The kinds.
const (
	KindNotebook    Kind = "notebook" // a notebook instance
	KindProfile     Kind = "profile"  // a user profile, that is, one person
	KindSharedSpace Kind = "space"    // a shared space: the person cannot be known
)

// Subject is who CloudTrail will name. It is comparable.
type Subject struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	Domain string `json:"domain,omitempty"`
	Space  string `json:"space,omitempty"`
	App    string `json:"app,omitempty"`
}

// maxName is the longest name of a notebook instance, user profile, space or app.
const maxName = 63

var (
	namePattern   = lazyregexp.New(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)
	domainPattern = lazyregexp.New(`^d-(-*[a-z0-9])+$`)
)

// CheckName returns an error unless s is a legal name of a notebook instance,
// user profile, space or app.
func CheckName(s string) error {
	if !legalName(s) {
		return fmt.Errorf("%.80q is not a SageMaker name: expected 1 to 63 letters, digits and hyphens, with no hyphen at either end", s)
	}
	return nil
}

func legalName(s string) bool { return len(s) <= maxName && namePattern.MatchString(s) }

func legalDomain(s string) bool { return len(s) <= maxName && domainPattern.MatchString(s) }
