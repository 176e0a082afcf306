package configguard

import (
	"bytes"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard/awsdir"
)

// editPatience is how long an edit waits for a look at a home that hangs.
const editPatience = 3 * time.Second

// AddProfile adds [profile name] with these keys to the file, which may be
// locked: so a user can be given a profile that they cannot write themselves.
// See awsconfig.AddProfile for what is refused. A tampered file is repaired
// with it.
func (g *Guard) AddProfile(name string, keys []awsconfig.Key) error {
	return g.edit("profile added to the aws config", name, func(text []byte) ([]byte, error) {
		return awsconfig.AddProfile(text, name, keys)
	})
}

// RemoveProfile removes [profile name], whoever has written it.
func (g *Guard) RemoveProfile(name string) error {
	return g.edit("profile removed from the aws config", name, func(text []byte) ([]byte, error) {
		return awsconfig.RemoveProfile(text, name)
	})
}

func (g *Guard) edit(what, profile string, change func(text []byte) ([]byte, error)) error {
	select {
	case g.work <- struct{}{}:
	case <-time.After(editPatience):
		return fmt.Errorf("editing %s: the home does not answer", g.cfg.path())
	}
	defer func() { <-g.work }()
	v, err := openVisit(g.cfg)
	if err != nil {
		return err
	}
	defer v.close()
	var text []byte
	err = v.retry(func() error {
		f, err := v.find(true)
		if err != nil {
			return err
		}
		defer f.close()
		if text == nil || !bytes.Equal(f.text, text) {
			changed, err := change(f.text)
			if err != nil {
				return fmt.Errorf("editing %s: %w", v.path(), err)
			}
			edit, err := awsconfig.Plan(changed, g.cfg.Managed)
			if err != nil {
				return fmt.Errorf("editing %s: %w", v.path(), err)
			}
			text = edit.Text
		}
		held, err := f.held()
		if err != nil {
			return err
		}
		if held {
			// put would open the directory for a moment, which the user could choose.
			return f.dir.Rewrite(awsdir.Config, f.version, f.text, text)
		}
		_, err = v.put(f, text)
		return err
	})
	if err != nil {
		return err
	}
	g.good = text
	g.cfg.Log.Info(what, zap.String("path", v.path()), zap.String("profile", profile))
	return nil
}
