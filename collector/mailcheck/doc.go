// Package mailcheck owns the question whether mail of the collector's would be taken: STARTTLS of the smarthost, and SPF,
// DKIM and DMARC of the sender's domain. It refuses to send any.
package mailcheck
