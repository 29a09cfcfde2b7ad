package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font/opentype"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
)

// Width and Height are the size at which a picture is shown, in CSS pixels; it has twice as many.
const (
	Width  = 600
	Height = 300
)

const (
	// dpi makes one CSS pixel, which is one point here, two pixels of the picture.
	dpi = 144
)

// The colours of a picture, the same as on the pages. A picture has one background for all of the reader's
// themes.
var (
	paper       = rgb(0xffffff)
	ink         = rgb(0x1a1d20)
	ink2        = rgb(0x565c63)
	gridLine    = rgb(0xe3e3de)
	strongLine  = rgb(0xc9c9c2)
	otherBoards = rgb(0xb9bdc2)
	band        = rgb(0xe6e7e8)
	measured    = rgb(0x0b5cad)
	requested   = rgb(0x757c84)
	critical    = rgb(0xb01f24)
	criticalBed = rgb(0xf1dadb)
	warning     = rgb(0x8a5300)
	done        = rgb(0x0a6e4a)
)

func rgb(v uint32) color.Color {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xff}
}

// canvas draws in CSS pixels with the origin at the top left.
type canvas struct {
	c             *vgimg.Canvas
	regular, bold *opentype.Font
}

func newCanvas() (*canvas, error) {
	regular, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("parse font: %w", err)
	}
	bold, err := opentype.Parse(liberationsansbold.TTF)
	if err != nil {
		return nil, fmt.Errorf("parse font: %w", err)
	}
	c := vgimg.NewWith(vgimg.UseWH(Width, Height), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(paper))
	return &canvas{c, regular, bold}, nil
}

// png encodes the drawing in few colours: a third of the size.
func (c *canvas) png() ([]byte, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, fewColours(c.c.Image())); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return b.Bytes(), nil
}

// shades are the pictures' colours, each in steps towards the paper, as the edges of lines and letters have them.
var shades = func() (all color.Palette) {
	const steps = 18
	for _, c := range []color.Color{ink, ink2, gridLine, strongLine, otherBoards, band, measured, requested, critical, criticalBed, warning, done} {
		r, g, b, _ := c.RGBA()
		for i := 1; i <= steps; i++ {
			towards := func(v uint32) uint8 { return uint8(0xff - (0xff-int(v>>8))*i/steps) }
			all = append(all, color.NRGBA{R: towards(r), G: towards(g), B: towards(b), A: 0xff})
		}
	}
	return append(all, paper)
}()

// fewColours maps each colour to the nearest of shades.
func fewColours(img image.Image) *image.Paletted {
	out := image.NewPaletted(img.Bounds(), shades)
	known := map[color.RGBA]uint8{}
	var last color.RGBA
	var index uint8
	for y := out.Rect.Min.Y; y < out.Rect.Max.Y; y++ {
		for x := out.Rect.Min.X; x < out.Rect.Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			now := color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 0xff}
			if now != last {
				i, ok := known[now]
				if !ok {
					i = uint8(shades.Index(now)) // there are fewer than 256
					known[now] = i
				}
				last, index = now, i
			}
			out.Pix[out.PixOffset(x, y)] = index
		}
	}
	return out
}

type point struct{ x, y float64 }

func (p point) vg() vg.Point { return vg.Point{X: vg.Length(p.x), Y: vg.Length(Height - p.y)} }

func pathOf(points []point, closed bool) vg.Path {
	var p vg.Path
	for i, at := range points {
		if i == 0 {
			p.Move(at.vg())
		} else {
			p.Line(at.vg())
		}
	}
	if closed {
		p.Close()
	}
	return p
}

// line strokes through points; dashes are lengths of ink and gap.
func (c *canvas) line(points []point, width float64, in color.Color, dashes ...vg.Length) {
	if len(points) < 2 {
		return
	}
	c.c.SetColor(in)
	c.c.SetLineWidth(vg.Length(width))
	c.c.SetLineDash(dashes, 0)
	c.c.Stroke(pathOf(points, false))
	c.c.SetLineDash(nil, 0)
}

func (c *canvas) fill(in color.Color, points ...point) {
	if len(points) < 3 {
		return
	}
	c.c.SetColor(in)
	c.c.Fill(pathOf(points, true))
}

func (c *canvas) rect(x0, y0, x1, y1 float64, in color.Color) {
	c.fill(in, point{x0, y0}, point{x1, y0}, point{x1, y1}, point{x0, y1})
}

func (c *canvas) dot(at point, radius float64, in color.Color) {
	var p vg.Path
	p.Move(point{at.x + radius, at.y}.vg())
	p.Arc(at.vg(), vg.Length(radius), 0, 2*math.Pi)
	p.Close()
	c.c.SetColor(in)
	c.c.Fill(p)
}

// style is how a text is set. The zero value is regular text of no size.
type style struct {
	size  float64
	bold  bool
	in    color.Color
	right bool // it ends at x
}

func (c *canvas) face(s style) font.Face {
	f := font.Face{Font: font.Font{Size: vg.Length(s.size)}, Face: c.regular}
	if s.bold {
		f.Face = c.bold
	}
	return f
}

func (c *canvas) width(s style, text string) float64 {
	f := c.face(s)
	return float64(f.Width(text))
}

// text sets a line of text on a baseline and returns where it ends.
func (c *canvas) text(x, y float64, s style, text string) float64 {
	w := c.width(s, text)
	if s.right {
		x -= w
	}
	c.c.SetColor(s.in)
	c.c.FillString(c.face(s), point{x, y}.vg(), text)
	return x + w
}

// fitted cuts text to a width, with an ellipsis.
func (c *canvas) fitted(s style, text string, limit float64) string {
	if c.width(s, text) <= limit {
		return text
	}
	runes := []rune(text)
	low, high := 0, len(runes)
	for low < high {
		mid := (low + high + 1) / 2
		if c.width(s, string(runes[:mid])+"…") <= limit {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return string(runes[:low]) + "…"
}
