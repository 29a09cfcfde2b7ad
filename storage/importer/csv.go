package importer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/csvimport"

	"bramble/storage"
)

// readCSV reads a table of one row a line. The URL's format says what its columns are, as in VictoriaMetrics:
// 1:time:rfc3339,2:label:NAME,3:metric:NAME. A line without a time is of now; a first line that cannot be read names the
// columns and is left out.
func readCSV(r *http.Request, t *tally) error {
	columns, err := csvimport.ParseColumnDescriptors(r.URL.Query().Get("format"))
	if err != nil {
		return bad("parse format, such as ?format=1:time:rfc3339,2:label:NAME,3:metric:NAME: %w", err)
	}
	return eachLine(r, func(number int, line []byte) error {
		row, err := parseCSVLine(columns, line)
		switch {
		case err != nil && number == 1:
			return nil
		case err != nil:
			t.refuse(malformed, fmt.Sprintf("line %d: %v", number, err), 1)
			return nil
		}
		if row.at == 0 {
			row.at = t.now.UnixMilli()
		}
		for _, v := range row.values {
			labels := append([]storage.Label{{Name: "__name__", Value: v.metric}}, row.labels...)
			if err := t.add(labels, []int64{row.at}, []float64{v.value}); err != nil {
				return err
			}
		}
		return nil
	})
}

// csvRow is one line of a table.
type csvRow struct {
	at     int64 // Unix milliseconds, 0 for none
	labels []storage.Label
	values []csvValue
}

type csvValue struct {
	metric string
	value  float64
}

func parseCSVLine(columns []csvimport.ColumnDescriptor, line []byte) (row csvRow, err error) {
	fields, err := csv.NewReader(bytes.NewReader(line)).Read()
	if err != nil {
		return row, err
	}
	if len(fields) < len(columns) {
		return row, fmt.Errorf("%d columns, the format names %d", len(fields), len(columns))
	}
	for i := range columns {
		field, column := fields[i], &columns[i]
		switch {
		case field == "":
		case column.ParseTimestamp != nil:
			if row.at, err = column.ParseTimestamp(field); err != nil {
				return row, fmt.Errorf("column %d: time %s: %w", i+1, short(field), err)
			}
		case column.TagName != "":
			row.labels = append(row.labels, storage.Label{Name: column.TagName, Value: field})
		case column.MetricName != "":
			v, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return row, fmt.Errorf("column %d: %s is not a number", i+1, short(field))
			}
			row.values = append(row.values, csvValue{column.MetricName, v})
		}
	}
	if len(row.values) == 0 {
		return row, errors.New("no column holds a value")
	}
	return row, nil
}
