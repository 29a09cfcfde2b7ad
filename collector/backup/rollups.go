package backup

import "context"

// addRollups copies the rollups, where there are any. They need not be of the series' instant: rows and the mark of how
// far they go are in one store, and readings behind the mark stay in the series long enough to be rolled up again.
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
	if err := w.addStore(ctx, snapshot, rollupsDir); err != nil {
		return err
	}
	w.manifest.RollupRows, w.manifest.RollupSeries = snapshot.Rows, snapshot.Series
	return nil
}
