package main

import (
	"context"
	"time"

	"bramble/alerting"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// registered says where the boards of the registry stand; whether they report does not count.
func registered(r *registry.Registry) map[string]alerting.Place {
	now := time.Now().UnixMilli()
	all := map[string]alerting.Place{}
	for _, b := range r.Boards() {
		if !b.Retired {
			all[b.Name] = alerting.Place{Labels: registry.Map(b.At(now))}
		}
	}
	return all
}

// maintenance hands the pages the pager's book.
func (a *app) maintenance() *dashboards.Maintenance {
	return &dashboards.Maintenance{
		List: func(ctx context.Context) ([]alerting.Maintenance, error) { return a.pager.Maintenances().List(ctx) },
		Start: func(ctx context.Context, q alerting.MaintenanceRequest) (alerting.Maintenance, error) {
			return a.pager.Maintenances().Start(ctx, q)
		},
		End: func(ctx context.Context, number int64, who string) (alerting.Maintenance, error) {
			return a.pager.Maintenances().End(ctx, number, who)
		},
	}
}
