// Package receivers writes pages and sends them.
//
// It owns the integrations of an alertmanager.yml (Alertmanager's own, and ours where its mails and Pushover keys do not do) and of a
// receivers.yml (ntfy, HTTP gateways), the words of a page about its incident, the signed links in it, and the pictures. It sends a
// message once and says how that went; it neither keeps messages nor tries again, which are package outbox's and its caller's parts, and
// knows no routes.
//
// Secrets are read from their files before each page, and stand in no error. A panic of an integration or of a user's template is an
// error of that try.
package receivers
