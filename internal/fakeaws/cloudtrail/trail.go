package cloudtrail

import (
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Trail keeps the records of one account in call order. It is safe for
// concurrent use.
type Trail struct {
	account string
	lines   io.Writer

	mu        sync.Mutex // guards everything below, and writes to lines
	records   []Record
	delivered int   // records[:delivered] are in files already
	writeErr  error // first failure of lines
}

// New returns an empty trail for an account. Each record is also written to
// lines as one line of JSON at once; nil means no such copy.
func New(account string, lines io.Writer) *Trail {
	return &Trail{account: account, lines: lines}
}

// Add appends r. A failing line writer does not lose the record: the error
// comes out of [Trail.Flush] and [Trail.Err].
func (t *Trail) Add(r Record) {
	var line []byte
	var err error
	if t.lines != nil {
		line, err = r.Line()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, r)
	if t.lines == nil {
		return
	}
	if err == nil {
		_, err = t.lines.Write(line)
	}
	if err != nil && t.writeErr == nil {
		t.writeErr = fmt.Errorf("writing trail line: %w", err)
	}
}

// Err returns the first error of the line writer.
func (t *Trail) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writeErr
}

// Since returns a copy of the records from index n on, oldest first.
func (t *Trail) Since(n int) []Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = min(max(n, 0), len(t.records))
	return slices.Clone(t.records[n:])
}

// Flush writes the records not yet delivered below dir as CloudTrail delivers
// them to S3, one gzip file per region, and returns the files' paths. now is
// the delivery time of the file name; the records may be older. A second
// flush delivers only what came after the first; a failed one delivers
// nothing, and its records are tried again.
func (t *Trail) Flush(dir string, now time.Time) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	byRegion := map[string][]Record{}
	var regions []string
	for _, r := range t.records[t.delivered:] {
		if _, ok := byRegion[r.AWSRegion]; !ok {
			regions = append(regions, r.AWSRegion)
		}
		byRegion[r.AWSRegion] = append(byRegion[r.AWSRegion], r)
	}
	var paths []string
	for _, region := range regions {
		path, err := t.deliver(dir, region, byRegion[region], now.UTC())
		if err != nil {
			for _, p := range paths {
				err = errors.Join(err, os.Remove(p))
			}
			return nil, fmt.Errorf("delivering trail of %s: %w", region, err)
		}
		paths = append(paths, path)
	}
	t.delivered = len(t.records)
	return paths, t.writeErr
}

func (t *Trail) deliver(dir, region string, records []Record, now time.Time) (path string, err error) {
	folder := filepath.Join(dir, "AWSLogs", t.account, "CloudTrail", region, now.Format("2006/01/02"))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s_CloudTrail_%s_%s_%s.json.gz", t.account, region, now.Format("20060102T1504Z"), rand.Text()[:16])
	path = filepath.Join(folder, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	z := gzip.NewWriter(f)
	if err := json.NewEncoder(z).Encode(struct{ Records []Record }{records}); err != nil {
		return "", err
	}
	return path, z.Close()
}
