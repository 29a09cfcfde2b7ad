package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/snappy"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	text "github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"

	"bramble/storage"
)

const (
	// maxWrite bounds a remote write request, compressed and not: VictoriaMetrics' own limit (-maxInsertRequestSize).
	maxWrite = 32 << 20
	// maxLines bounds a body of lines, compressed and not, and maxLine one of its lines. Bodies of lines are not held.
	maxLines = 1 << 30
	maxLine  = 16 << 20
)

var errBodySize = &badImport{http.StatusRequestEntityTooLarge, errors.New("the body is too large: send it in parts")}

// readRemoteWrite reads Prometheus remote write 1.0, under snappy, or under zstd as vmagent sends it.
func readRemoteWrite(r *http.Request, t *tally) error {
	if kind := r.Header.Get("Content-Type"); strings.Contains(kind, "io.prometheus.write.v2") {
		return &badImport{http.StatusUnsupportedMediaType, errors.New("remote write 2.0 is not taken: set protobuf_message to prometheus.WriteRequest")}
	}
	compressed, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxWrite))
	if err != nil {
		return readError(err)
	}
	body, err := inflate(r.Header.Get("Content-Encoding"), compressed)
	if err != nil {
		return err
	}
	wru := prompb.GetWriteRequestUnmarshaler()
	defer prompb.PutWriteRequestUnmarshaler(wru)
	request, err := wru.UnmarshalProtobuf(body)
	if err != nil {
		return bad("decode remote write: %w", err)
	}
	var labels []storage.Label
	var at []int64
	var values []float64
	for i := range request.Timeseries {
		ts := &request.Timeseries[i]
		labels, at, values = labels[:0], at[:0], values[:0]
		for _, l := range ts.Labels {
			labels = append(labels, storage.Label{Name: l.Name, Value: l.Value})
		}
		for _, s := range ts.Samples {
			at, values = append(at, s.Timestamp), append(values, s.Value)
		}
		if err := t.add(labels, at, values); err != nil {
			return err
		}
	}
	return nil
}

func inflate(encoding string, compressed []byte) (body []byte, err error) {
	switch encoding {
	case "", "snappy":
		body, err = snappy.Decode(nil, compressed, maxWrite)
	case "zstd":
		body, err = zstd.DecompressLimited(nil, compressed, maxWrite)
	default:
		return nil, bad("Content-Encoding %q: use snappy", encoding)
	}
	if err != nil {
		return nil, bad("decompress remote write, %d bytes at most: %w", maxWrite, err)
	}
	return body, nil
}

// readError tells a body that is too large from a connection that broke.
func readError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) || errors.Is(err, bufio.ErrTooLong) {
		return errBodySize
	}
	return bad("read the body: %w", err)
}

// eachLine calls f for each line of a body that is not empty.
func eachLine(r *http.Request, f func(number int, line []byte) error) error {
	body := io.Reader(http.MaxBytesReader(nil, r.Body, maxLines))
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return readError(err)
		}
		// One byte more than is taken, so that a longer body is not taken for a shorter one.
		body = io.LimitReader(z, maxLines+1)
	default:
		return bad("Content-Encoding %q: use gzip or none", encoding)
	}
	counted := &counter{from: body}
	lines := bufio.NewScanner(counted)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			if err := f(number, line); err != nil {
				return err
			}
		}
	}
	if counted.n > maxLines {
		return errBodySize
	}
	if err := lines.Err(); err != nil {
		return readError(err)
	}
	return nil
}

// counter counts the bytes that are read.
type counter struct {
	from io.Reader
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	return n, err
}

// importLine is a line of VictoriaMetrics' /api/v1/import, and of /api/v1/export.
type importLine struct {
	Metric     map[string]string `json:"metric"`
	Values     []importValue     `json:"values"`
	Timestamps []int64           `json:"timestamps"` // Unix milliseconds
}

// importValue is a number, or the text that exports write for values that JSON has no number for.
type importValue float64

// UnmarshalJSON implements json.Unmarshaler.
func (v *importValue) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = importValue(math.NaN())
		return nil
	}
	word := strings.Trim(string(b), `"`)
	f, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return fmt.Errorf("value %s is not a number", short(word))
	}
	*v = importValue(f)
	return nil
}

func readJSONLines(r *http.Request, t *tally) error {
	var labels []storage.Label
	var values []float64
	return eachLine(r, func(number int, line []byte) error {
		one, err := parseImportLine(line)
		if err != nil {
			t.refuse(malformed, fmt.Sprintf("line %d: %v", number, err), 1)
			return nil
		}
		labels, values = labels[:0], values[:0]
		for name, value := range one.Metric {
			labels = append(labels, storage.Label{Name: name, Value: value})
		}
		for _, v := range one.Values {
			values = append(values, float64(v))
		}
		return t.add(labels, one.Timestamps, values)
	})
}

func parseImportLine(line []byte) (one importLine, err error) {
	if err := json.Unmarshal(line, &one); err != nil {
		return one, err
	}
	if len(one.Values) != len(one.Timestamps) || len(one.Values) == 0 {
		return one, fmt.Errorf("%d values and %d timestamps", len(one.Values), len(one.Timestamps))
	}
	return one, nil
}

// readText reads Prometheus' text format. A line without a time is of now.
func readText(r *http.Request, t *tally) error {
	var p textParser
	return eachLine(r, func(number int, line []byte) error {
		labels, at, value, err := p.parse(string(line))
		if err != nil {
			t.refuse(malformed, fmt.Sprintf("line %d: %v", number, err), 1)
			return nil
		}
		if labels == nil {
			return nil // a comment
		}
		if at == 0 {
			at = t.now.UnixMilli()
		}
		return t.add(labels, []int64{at}, []float64{value})
	})
}

// textParser is memory that each line uses again.
type textParser struct {
	rows   text.Rows
	labels []storage.Label
}

// parse returns nil labels for a line that has no row. The labels hold until the next call.
func (p *textParser) parse(line string) (labels []storage.Label, at int64, value float64, err error) {
	p.rows.UnmarshalWithErrLogger(line, func(s string) { err = errors.New(s) })
	if err != nil || len(p.rows.Rows) == 0 {
		return nil, 0, 0, err
	}
	row := &p.rows.Rows[0]
	p.labels = append(p.labels[:0], storage.Label{Name: "__name__", Value: row.Metric})
	for _, tag := range row.Tags {
		p.labels = append(p.labels, storage.Label{Name: tag.Key, Value: tag.Value})
	}
	return p.labels, row.Timestamp, row.Value, nil
}
