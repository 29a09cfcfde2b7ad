package dashboards

import _ "embed"

// serverSource is read to compare the routes with their description.
//
//go:embed server.go
var serverSource string
