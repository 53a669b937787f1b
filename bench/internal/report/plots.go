package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
)

// plotted is one plot.
type plotted struct {
	Title string
	SVG   template.HTML
}

// palette has a colour for each subject, told apart also by who sees few of them.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x77, 0x77, 0x77, 0xff}, {0x8b, 0x45, 0x13, 0xff},
	{0x6a, 0x3d, 0x9a, 0xff}, {0xb2, 0xdf, 0x8a, 0xff}, {0x33, 0x33, 0x33, 0xff},
}

func (r *Report) colour(subject string) color.RGBA {
	for i, s := range r.Subjects {
		if s.Name == subject {
			return palette[i%len(palette)]
		}
	}
	return palette[0]
}

// plots draws everything that is worth a look.
func (r *Report) plots() ([]plotted, error) {
	var all []plotted
	for _, sc := range r.of(scenario.CPU) {
		if err := add(&all, sc.Name+": CPU time a message, as a ratio", func() (*plot.Plot, error) { return r.ratioPlot(sc) }); err != nil {
			return nil, err
		}
	}
	for _, sc := range r.of(scenario.Latency) {
		if err := add(&all, sc.Name+": latency by percentile, µs", func() (*plot.Plot, error) { return r.latencyPlot(sc) }); err != nil {
			return nil, err
		}
	}
	for _, sc := range r.of(scenario.Memory) {
		if err := add(&all, sc.Name+": resident memory a connection, B: idle, and after its echoes (paler)", func() (*plot.Plot, error) { return r.memoryPlot(sc) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func add(all *[]plotted, title string, draw func() (*plot.Plot, error)) error {
	p, err := draw()
	if err != nil {
		return fmt.Errorf("plot of %s: %w", title, err)
	}
	if p == nil {
		return nil // There is nothing to draw.
	}
	svg, err := render(p)
	if err != nil {
		return fmt.Errorf("plot of %s: %w", title, err)
	}
	*all = append(*all, plotted{title, svg})
	return nil
}

// render returns the plot as an element of a page.
func render(p *plot.Plot) (template.HTML, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(12*vg.Centimeter, 7*vg.Centimeter))
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	// What stands before the element is of no use inside a page.
	text := b.Bytes()
	if i := bytes.Index(text, []byte("<svg")); i > 0 {
		text = text[i:]
	}
	return template.HTML(text), nil // Drawn here; texts in it are escaped by the library.
}

// spread is bars with their spread.
type spread struct {
	names  []string
	ratios []stats.Ratio
}

// ratioPlot has a bar for each subject: the median, and a line for the spread.
func (r *Report) ratioPlot(sc Scenario) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Min = 0
	var bars spread
	for _, s := range r.Subjects {
		if s.Error != "" {
			continue
		}
		if ratio := r.ratio(sc.Name, "", s.Name, s.Base, cpuTime); ratio.Pairs > 0 {
			bars.names = append(bars.names, s.Name)
			bars.ratios = append(bars.ratios, ratio)
			bar, err := plotter.NewBarChart(plotter.Values{ratio.Median}, vg.Points(16))
			if err != nil {
				return nil, err
			}
			bar.XMin, bar.Color, bar.LineStyle.Width = float64(len(bars.names)-1), r.colour(s.Name), 0
			p.Add(bar)
		}
	}
	if len(bars.names) == 0 {
		return nil, nil
	}
	whiskers, err := plotter.NewYErrorBars(bars)
	if err != nil {
		return nil, err
	}
	p.Add(whiskers, plotter.NewGrid())
	names(p, bars.names)
	return p, nil
}

// Len implements plotter.XYer.
func (s spread) Len() int { return len(s.ratios) }

// XY implements plotter.XYer.
func (s spread) XY(i int) (x, y float64) { return float64(i), s.ratios[i].Median }

// YError implements plotter.YErrorer.
func (s spread) YError(i int) (below, above float64) {
	return s.ratios[i].Median - s.ratios[i].Low, s.ratios[i].High - s.ratios[i].Median
}

// names puts names under bars, aslant, since there may be many.
func names(p *plot.Plot, list []string) {
	p.NominalX(list...)
	p.X.Min, p.X.Max = -0.6, float64(len(list))-0.4
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	p.X.Tick.Label.Font.Size = vg.Points(8)
}

// latencyPlot has a line for each subject. Percentiles stand by how many nines
// they have, so that the tail has room; times are logarithmic.
func (r *Report) latencyPlot(sc Scenario) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	quantiles := load.Quantiles()
	quantiles = quantiles[:len(quantiles)-1] // The most has no number of nines.
	var ticks []plot.Tick
	for _, q := range []float64{50, 90, 99, 99.9, 99.99} {
		ticks = append(ticks, plot.Tick{Value: nines(q), Label: fmt.Sprintf("%v %%", q)})
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	lines := 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	for _, s := range r.subjects() {
		var points plotter.XYs
		of := r.quantiles(sc.Name, s.Name)
		for _, q := range quantiles {
			if v := of(q); v > 0 {
				points = append(points, plotter.XY{X: nines(q), Y: v / 1e3})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = r.colour(s.Name), vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(s.Name, line)
		lines++
	}
	if lines == 0 {
		return nil, nil
	}
	p.Add(plotter.NewGrid())
	return p, nil
}

func nines(q float64) float64 { return -math.Log10(1 - q/100) }

// pale is a colour half way to white.
func pale(c color.RGBA) color.RGBA {
	return color.RGBA{c.R/2 + 0x80, c.G/2 + 0x80, c.B/2 + 0x80, 0xff}
}

// memoryPlot has two bars for each subject.
func (r *Report) memoryPlot(sc Scenario) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Min = 0
	var list []string
	for _, s := range r.subjects() {
		idle, after, n := r.memory(sc.Name, s.Name)
		if n == 0 {
			continue
		}
		for i, v := range []float64{idle, after} {
			bar, err := plotter.NewBarChart(plotter.Values{max(0, v)}, vg.Points(9))
			if err != nil {
				return nil, err
			}
			bar.XMin, bar.LineStyle.Width, bar.Offset = float64(len(list)), 0, vg.Points(float64(9*i)-4.5)
			if bar.Color = r.colour(s.Name); i == 1 {
				bar.Color = pale(r.colour(s.Name))
			}
			p.Add(bar)
		}
		list = append(list, s.Name)
	}
	if len(list) == 0 {
		return nil, nil
	}
	p.Add(plotter.NewGrid())
	names(p, list)
	return p, nil
}
