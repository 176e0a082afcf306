// Package trailgen writes CloudTrail trails of which the answers are known: any number
// of records, as CloudTrail delivers them to S3, the same for the same seed.
//
// The shapes are those of published records (AWS's documentation and a public trail):
// base credentials handed out by SageMaker, sessions with and without a source
// identity, chains three deep, calls that a service forwards with a key of its own,
// Lake Formation queries, jobs, calls and AssumeRole records of other accounts, users,
// services; and what goes wrong: bypasses, five kinds of forgery, missing, late,
// repeated and broken records, digest and insight files.
//
// What is right for a record is written in its event ID, which answers must not depend
// on, so that a trail of millions can be checked without a list of the answers.
//
// It is longer than most because each kind of notebook (notebook.go) and each thing that
// one does (scene.go) is written out with what is right for it.
package trailgen

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/nbidentityd/nbidentityd/internal/trail"
)

// Config says what to write. The same values give the same trail.
type Config struct {
	Seed      uint64
	Records   int       // about as many
	Notebooks int       // at least 20, so that each kind occurs
	Days      int       // at least 1
	Start     time.Time // midnight of the first day, UTC
}

// Expectation is what is known about a record.
type Expectation struct {
	Shape  string       // what it is an example of
	Name   string       // who made the call; "" when the trail cannot tell
	Rung   trail.Rung   // the evidence that is there for it
	Reason trail.Reason // why the trail cannot tell
}

// Truth is what is known about a trail.
type Truth struct {
	Calls      int // different calls in it
	Duplicates int // records delivered again
	Copies     int // AssumeRole records that another account's copy replaces
	Broken     int // places that are no record
	Late       int // records delivered later than in the quarter of an hour they belong to
	Digests    int // digest and insight files beside the trail's
	Files      int
	Bytes      int64 // of JSON

	mask   uint32
	expect []Expectation
	index  map[Expectation]uint32
}

// Of returns what is known about the record with an event ID.
func (t *Truth) Of(eventID string) (Expectation, bool) {
	if len(eventID) < 8 {
		return Expectation{}, false
	}
	n, err := strconv.ParseUint(eventID[:8], 16, 32)
	if i := uint32(n) ^ t.mask; err == nil && int(i) < len(t.expect) {
		return t.expect[i], true
	}
	return Expectation{}, false
}

func (t *Truth) id(e Expectation) uint32 {
	i, ok := t.index[e]
	if !ok {
		i = uint32(len(t.expect))
		t.expect = append(t.expect, e)
		t.index[e] = i
	}
	return i ^ t.mask
}

const (
	account = "111122223333"
	other   = "444455556666"
	region  = "us-east-1"

	slotSeconds = 900 // CloudTrail delivers in portions of minutes; here a quarter of an hour
	slotsPerDay = 86400 / slotSeconds
	rotation    = 24 // slots for which base credentials live
	maxLate     = 8  // slots
)

// Write writes a trail into the directory dir, below AWSLogs.
func Write(dir string, cfg Config) (*Truth, error) {
	w := newWorld(cfg)
	slots := max(cfg.Days, 1) * slotsPerDay
	for slot := range slots + maxLate {
		if slot < slots {
			w.slot(slot, slots)
		}
		for _, owner := range []string{account, other} {
			if err := w.deliver(dir, owner, slot); err != nil {
				return nil, err
			}
		}
		if slot%slotsPerDay == 0 {
			if err := w.besides(dir, slot); err != nil {
				return nil, err
			}
		}
	}
	return w.truth, nil
}

func (w *world) time(slot int) time.Time { return time.Unix(w.start+int64(slot)*slotSeconds, 0).UTC() }

// deliver writes the records that a slot has for an account, in no order.
func (w *world) deliver(dir, owner string, slot int) error {
	key := delivery{owner, slot}
	records := w.pending[key]
	delete(w.pending, key)
	if len(records) == 0 {
		return nil
	}
	w.random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	var text strings.Builder
	text.WriteString(`{"Records":[`)
	for i, r := range records {
		if i > 0 {
			text.WriteByte(',')
		}
		if i == 1 && slot%40 == 7 {
			text.WriteString(r[:len(r)/2])
			text.WriteByte(',')
			w.truth.Broken++
		}
		text.WriteString(r)
	}
	text.WriteString("]}")
	w.truth.Files++
	w.truth.Bytes += int64(text.Len())
	at := w.time(slot + 1)
	name := fmt.Sprintf("%s_CloudTrail_%s_%s_%016x.json.gz", owner, region, at.Format("20060102T1504Z"), w.random.Uint64())
	return writeGzip(filepath.Join(dir, "AWSLogs", owner, "CloudTrail", region, at.Format("2006/01/02"), name), text.String())
}

// besides writes the files that CloudTrail puts beside a trail.
func (w *world) besides(dir string, slot int) error {
	for _, kind := range []string{"CloudTrail-Digest", "CloudTrail-Insight"} {
		w.truth.Digests++
		name := fmt.Sprintf("%s_%s_%s_%d.json.gz", account, kind, region, slot)
		if err := writeGzip(filepath.Join(dir, "AWSLogs", account, kind, region, w.time(slot).Format("2006/01/02"), name), `{"awsAccountId":"`+account+`","logFiles":[]}`); err != nil {
			return err
		}
	}
	return nil
}

func writeGzip(path, text string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	zipper, err := gzip.NewWriterLevel(file, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	if _, err = zipper.Write([]byte(text)); err == nil {
		err = zipper.Close()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// delivery is where and when records arrive.
type delivery struct {
	account string
	slot    int
}

// world is everything that makes records.
type world struct {
	cfg       Config
	start     int64
	random    *rand.Rand
	truth     *Truth
	notebooks []*notebook
	pending   map[delivery][]string
	slotNow   int
	serial    int
	perSlot   int // calls of a notebook in a slot

	exec, etl, report, jobRole, dataRole, otherRole role
}

func newWorld(cfg Config) *world {
	w := &world{
		cfg: cfg, start: cfg.Start.Unix(), random: rand.New(rand.NewPCG(cfg.Seed, 20260701)),
		truth:   &Truth{index: make(map[Expectation]uint32)},
		pending: make(map[delivery][]string),
	}
	w.truth.mask = w.random.Uint32()
	count := max(cfg.Notebooks, 20)
	w.perSlot = max(1, cfg.Records/(count*max(cfg.Days, 1)*slotsPerDay))
	w.exec = role{"AmazonSageMaker-ExecutionRole", "/service-role/", w.unique("AROA"), account}
	w.etl = role{"etl", "/", w.unique("AROA"), account}
	w.report = role{"report", "/", w.unique("AROA"), account}
	w.jobRole = role{"training", "/", w.unique("AROA"), account}
	w.dataRole = role{"lake-data", "/", w.unique("AROA"), account}
	w.otherRole = role{"partner", "/", w.unique("AROA"), other}
	for i := range count {
		w.notebooks = append(w.notebooks, newNotebook(i))
	}
	return w
}

func (w *world) unique(prefix string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := []byte(prefix)
	for range 16 {
		id = append(id, alphabet[w.random.IntN(len(alphabet))])
	}
	return string(id)
}

func (w *world) chance(oneIn int) bool { return w.random.IntN(oneIn) == 0 }
