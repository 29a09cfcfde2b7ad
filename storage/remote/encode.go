package remote

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"syscall"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/bytesutil"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"

	"bramble/storage"
)

// nameReader turns rows into remote write's protobuf. It is memory that is used again; the zero value is ready.
type nameReader struct {
	name    vm.MetricName
	request prompb.WriteRequest
}

// encode appends the leading rows of one series to a request's body, and returns how many it took and how many of
// those were NaN, which are left out. A body of several such pieces is one request: protobuf's repeated fields
// concatenate. rows must not be empty.
func (e *nameReader) encode(body []byte, rows []storage.Row) (_ []byte, taken, nans int, err error) {
	series := rows[0].Series
	if err := e.name.UnmarshalRaw(series); err != nil {
		return body, 0, 0, fmt.Errorf("decode the name of a series: %w", err)
	}
	if len(e.request.Timeseries) == 0 {
		e.request.Timeseries = make([]prompb.TimeSeries, 1)
	}
	ts := &e.request.Timeseries[0]
	ts.Labels = append(ts.Labels[:0], prompb.Label{Name: "__name__", Value: bytesutil.ToUnsafeString(e.name.MetricGroup)})
	for i := range e.name.Tags {
		t := &e.name.Tags[i]
		ts.Labels = append(ts.Labels, prompb.Label{Name: bytesutil.ToUnsafeString(t.Key), Value: bytesutil.ToUnsafeString(t.Value)})
	}
	ts.Samples = ts.Samples[:0]
	for taken < len(rows) && taken < maxSamples && bytes.Equal(rows[taken].Series, series) {
		if row := &rows[taken]; math.IsNaN(row.Value) {
			nans++
		} else {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: row.At, Value: row.Value})
		}
		taken++
	}
	if len(ts.Samples) == 0 {
		return body, taken, nans, nil
	}
	return e.request.MarshalProtobuf(body), taken, nans, nil
}

// maxSamples bounds the rows of a series in one piece, so that a request stays near its size.
const maxSamples = 10_000

// asReadOnly says that the disk is full in the words that callers know.
func asReadOnly(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	}
	return err
}
