package backup

import (
	"context"
	"fmt"
	"path"
)

// addRollups copies the rollups, where there are any. They need not be of the series' instant: rows and the mark of how
// far they go are in one store, and what is behind the mark is kept in the series long enough to be rolled up again.
func (w *writer) addRollups(ctx context.Context) error {
	if w.source.Rollups == nil {
		return nil
	}
	snapshot, err := w.source.Rollups.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	if err := w.checkSpace(snapshot); err != nil {
		return err
	}
	for _, f := range snapshot.Files {
		if err := w.add(ctx, f.Source, path.Join(rollupsDir, f.Name)); err != nil {
			return fmt.Errorf("copy the rollups: %w", err)
		}
	}
	w.manifest.RollupRows, w.manifest.RollupSeries = snapshot.Rows, snapshot.Series
	return nil
}
