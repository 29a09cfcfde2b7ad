package incident

import (
	"context"
	"database/sql"
	"fmt"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/storage/statedb"
)

// MergedText says, for the page, which incidents are part of one; empty where none is.
func MergedText(ctx context.Context, db database.Querier, incident string) (string, error) {
	merged, err := MergedInto(ctx, db, incident)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range merged {
		name := fmt.Sprintf("#%d", f.Number)
		if f.Ack != nil {
			name += " (acknowledged by " + f.Ack.By + ")"
		}
		if f.Whole {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return "Incident " + names[0] + " is part of it.", nil
	}
	return "Incidents " + alert.Enumerate(names) + " are part of it.", nil
}

// Merged is an incident that was merged into another one.
type Merged struct {
	*Incident
	// Whole says that all of it was: it is over, and goes on there.
	Whole bool
	// At is the time in Unix milliseconds up to which its messages are followed up; 0 where that was done.
	At int64
}

// MergedInto reads the incidents that were merged into one, by number.
func MergedInto(ctx context.Context, db database.Querier, id string) (out []Merged, err error) {
	at := map[string]Merged{}
	err = statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			id string
			f  Merged
		)
		err := row.Scan(&id, &f.Whole, &f.At)
		at[id] = f
		return err
	}, `SELECT merged_from, whole, at FROM incident_merged WHERE incident = ?`, id)
	if err != nil {
		return nil, fmt.Errorf("read what incident %s took over: %w", id, err)
	}
	if len(at) == 0 {
		return nil, nil
	}
	all, err := Find(ctx, db, `WHERE id IN (SELECT merged_from FROM incident_merged WHERE incident = ?) ORDER BY number`, id)
	if err != nil {
		return nil, err
	}
	for _, in := range all {
		out = append(out, Merged{in, at[in.ID].Whole, at[in.ID].At})
	}
	return out, nil
}
