package report

import (
	"bytes"
	_ "embed"
	"html/template"
)

//go:embed report.html.tmpl
var page string

// HTML returns the report as one page that needs nothing else: no script, and
// the plots as part of it.
func (r *Report) HTML() ([]byte, error) {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return nil, err
	}
	plots, err := r.plots()
	if err != nil {
		return nil, err
	}
	tally := Count(r.Goals())
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Report": r, "Machine": r.Machine(), "Warnings": r.Warnings(), "Tables": r.Tables(true), "Plots": plots,
		"Tally": tally,
	})
	return b.Bytes(), err
}
