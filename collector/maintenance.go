package main

import (
	"context"

	"bramble/alerting/maintenance"
	"bramble/dashboards"
)

// maintenance hands the pages the pager's book.
func (a *app) maintenance() *dashboards.Maintenance {
	return &dashboards.Maintenance{
		List: func(ctx context.Context) ([]maintenance.Maintenance, error) { return a.pager.Maintenances().List(ctx) },
		Start: func(ctx context.Context, q maintenance.Request) (maintenance.Maintenance, error) {
			return a.pager.Maintenances().Start(ctx, q)
		},
		End: func(ctx context.Context, number int64, who string) (maintenance.Maintenance, error) {
			return a.pager.Maintenances().End(ctx, number, who)
		},
	}
}
