package schedules

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Record is what consecutive runs of a path said that came to the same verdict
// for the same reason. Keeping one record for each change, rather than one for
// each run, keeps the report of last night's failure when the same path has been
// reachable a thousand times since.
type Record struct {
	ID       string          `json:"id"`
	Schedule string          `json:"schedule"`
	Path     string          `json:"path"`
	Verdict  verdict.Verdict `json:"verdict"`
	Reason   verdict.Code    `json:"reason,omitempty"`
	Message  string          `json:"message,omitempty"`
	// Since is when the first of these runs ended, Last the latest.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	Runs  int       `json:"runs"`
	// Current says that this is what the path's latest run said.
	Current bool `json:"current"`

	report []byte // of the latest run, packed: see records.pack
}

// Filter selects records; empty fields select all.
type Filter struct {
	Schedule string
	Path     string
	Verdict  verdict.Verdict
	Limit    int // 0 for no limit
}

func (f Filter) matches(r *Record) bool {
	return (f.Schedule == "" || f.Schedule == r.Schedule) &&
		(f.Path == "" || f.Path == r.Path) &&
		(f.Verdict == "" || f.Verdict == r.Verdict)
}

// records keeps the current record of every path and as many past ones as
// there is room for, oldest first.
type records struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder

	mu     sync.Mutex
	epoch  string // makes ids of different runs of the daemon differ
	next   uint64
	past   int // number of records that are not current
	room   int
	sorted []*Record
}

func newRecords(started time.Time) *records {
	// Neither can fail with these options. EncodeAll and DecodeAll start no
	// goroutines.
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	decoder, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	return &records{encoder: encoder, decoder: decoder, epoch: strconv.FormatInt(started.Unix(), 36)}
}

// pack is a report as it is kept. Of ten thousand, few are ever looked at; one that
// leads to ten backends takes 75 kB as it is, and 4 kB packed.
func (rs *records) pack(report *verdict.Report) []byte {
	data, err := report.AppendJSON(nil)
	if err != nil {
		return nil // as if it had made room for others
	}
	return bytes.Clone(rs.encoder.EncodeAll(data, nil)) // which makes room for more
}

func (rs *records) unpack(packed []byte) (*verdict.Report, bool) {
	data, err := rs.decoder.DecodeAll(packed, nil)
	report := new(verdict.Report)
	return report, err == nil && json.Unmarshal(data, report) == nil
}

// resize sets how many past records are kept.
func (rs *records) resize(room int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.room = room
	rs.evict()
}

// add records what a run said about a path. The previous record of the path,
// if there is one, is continued or ended. It returns the path's record and
// whether it is a new one.
func (rs *records) add(previous *Record, schedule, path string, said result, now time.Time) (*Record, bool) {
	report := said.report
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if previous != nil && previous.Verdict == report.Verdict && previous.Reason == report.Reason() {
		report.ID = previous.ID
		previous.report = said.packed
		previous.Message = message(report)
		previous.Last = now
		previous.Runs++
		return previous, false
	}
	rs.end(previous)
	rs.next++
	record := &Record{
		ID:       rs.epoch + "-" + strconv.FormatUint(rs.next, 10),
		Schedule: schedule,
		Path:     path,
		Verdict:  report.Verdict,
		Reason:   report.Reason(),
		Message:  message(report),
		Since:    now,
		Last:     now,
		Runs:     1,
		Current:  true,
		report:   said.packed,
	}
	report.ID = record.ID
	rs.sorted = append(rs.sorted, record)
	rs.evict()
	return record, true
}

// close ends the record of a path that is not diagnosed any more.
func (rs *records) close(record *Record) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.end(record)
	rs.evict()
}

func (rs *records) end(record *Record) {
	if record != nil && record.Current {
		record.Current = false
		rs.past++
	}
}

func (rs *records) evict() {
	surplus := rs.past - rs.room
	if surplus <= 0 {
		return
	}
	kept := make([]*Record, 0, len(rs.sorted)-surplus)
	for _, record := range rs.sorted {
		if surplus > 0 && !record.Current {
			surplus--
			rs.past--
			continue
		}
		kept = append(kept, record)
	}
	rs.sorted = kept
}

// list returns copies of the records that f selects, latest first.
func (rs *records) list(f Filter) []Record {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	found := []Record{}
	for i := len(rs.sorted) - 1; i >= 0; i-- {
		if f.Limit > 0 && len(found) == f.Limit {
			break
		}
		if f.matches(rs.sorted[i]) {
			found = append(found, *rs.sorted[i])
		}
	}
	return found
}

// report returns the report of the record with this id.
func (rs *records) report(id string) (*verdict.Report, bool) {
	rs.mu.Lock()
	var packed []byte
	for _, record := range rs.sorted {
		if record.ID == id {
			packed = record.report
		}
	}
	rs.mu.Unlock()
	if packed == nil {
		return nil, false
	}
	report, ok := rs.unpack(packed)
	report.ID = id
	return report, ok
}

// snapshot copies a record under the lock that guards its fields.
func (rs *records) snapshot(record *Record) Record {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return *record
}

func message(report *verdict.Report) string {
	if len(report.Reasons) == 0 {
		return ""
	}
	return strings.TrimSpace(report.Reasons[0].Message)
}
