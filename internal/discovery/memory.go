package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const (
	memoryVersion = 1
	maxMemory     = 16 << 10
)

// memory is the content of the state file.
type memory struct {
	Version int `json:"version"`

	// What the facts are about.
	ResourceARN string `json:"resource_arn"`
	Domain      string `json:"domain"`
	Space       string `json:"space"`

	Facts Facts `json:"facts"`
}

// recall takes over what the state file holds about this notebook.
func (d *discovery) recall() {
	var facts Facts
	data, err := readPrivate(d.StateFile)
	if err == nil {
		facts, err = d.parse(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		d.Log.Warn("ignoring the remembered facts", zap.String("path", d.StateFile), zap.Error(err))
	default:
		d.recalled = facts
	}
}

// parse returns the remembered facts if they are whole, about this notebook, and
// possible.
func (d *discovery) parse(data []byte) (Facts, error) {
	var m memory
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return Facts{}, fmt.Errorf("parsing: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Facts{}, errors.New("parsing: data after the end")
	}
	if want := d.memory(m.Facts); m != want {
		return Facts{}, fmt.Errorf("written for %.300q, this is %q, or by another version", m.ResourceARN, want.ResourceARN)
	}
	if err := d.possible(m.Facts); err != nil {
		return Facts{}, err
	}
	if m.Facts.RoleSource == RoleFromSetting || m.Facts.RoleSource == RoleFromMetadata {
		m.Facts.ExecutionRoleARN = "" // theirs to say, not ours to remember
	}
	return m.Facts, nil
}

// possible returns an error for facts that Discover cannot have found.
func (d *discovery) possible(f Facts) error {
	kind, name := f.Subject.Kind, f.Subject.Name
	switch {
	case d.nb.Surface == identity.SurfaceNotebookInstance && kind == identity.KindNotebook && name == d.nb.InstanceName:
	case d.nb.Surface == identity.SurfaceStudioProfile && kind == identity.KindProfile && name == d.nb.UserProfile:
	case d.nb.Surface == identity.SurfaceStudioSpace && kind == identity.KindProfile && identity.CheckName(name) == nil:
	case d.nb.Surface == identity.SurfaceStudioSpace && kind == identity.KindSharedSpace && name == d.nb.Space:
	default:
		return fmt.Errorf("subject %.80q of kind %.80q does not belong to this notebook", name, kind)
	}
	if f.Subject != d.newSubject(kind, name) {
		return fmt.Errorf("subject %.300q does not belong to this notebook", fmt.Sprint(f.Subject))
	}
	switch f.RoleSource {
	case RoleFromSetting, RoleFromMetadata:
	case RoleFromInstance, RoleFromProfile, RoleFromDomain:
		if !d.legalRole(f.ExecutionRoleARN) {
			return fmt.Errorf("execution role %.120q is not one of account %s", f.ExecutionRoleARN, d.nb.Account)
		}
	default:
		return fmt.Errorf("unknown source of the role %.80q", f.RoleSource)
	}
	if f.PropagatesSourceIdentity && (!f.PropagationKnown || kind != identity.KindProfile) {
		return errors.New("propagation contradicts itself")
	}
	return nil
}

func (d *discovery) memory(facts Facts) memory {
	return memory{Version: memoryVersion, ResourceARN: d.nb.ResourceARN, Domain: d.nb.DomainID, Space: d.nb.Space, Facts: facts}
}

// remember writes the facts. A disk that is full or read-only costs the next
// start a few Describe calls, so it is only logged.
func (d *discovery) remember(facts Facts) {
	data, err := json.MarshalIndent(d.memory(facts), "", " ")
	if err == nil {
		err = writePrivate(d.StateFile, append(data, '\n'))
	}
	if err != nil {
		d.Log.Warn("facts not remembered, the next start asks aws again", zap.String("path", d.StateFile), zap.Error(err))
	}
}

// readPrivate reads a regular file that only our own user can have written.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errors.New("not a regular file")
	case int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("owned by uid %d", st.Uid)
	case st.Mode&0o022 != 0:
		return nil, fmt.Errorf("mode %#o lets others write", st.Mode&0o7777)
	case st.Size > maxMemory:
		return nil, fmt.Errorf("%d bytes: expected at most %d", st.Size, maxMemory)
	}
	return io.ReadAll(io.LimitReader(f, maxMemory))
}

// writePrivate replaces path as a whole: readers and a crash see the old or the
// new content.
func writePrivate(path string, data []byte) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
