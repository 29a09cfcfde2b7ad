// The part of uPlot that the pages use: vendor/uPlot.iife.min.js makes global. Positions are in CSS
// pixels, those on the canvas and bbox in device pixels.

export {};

declare global {
  interface UPlotBox {
    left: number;
    top: number;
    width: number;
    height: number;
  }

  class uPlot {
    constructor(options: UPlotOptions, data: UPlotData, box: HTMLElement);
    static paths: { stepped(options: { align: 1 | -1 }): unknown };
    readonly ctx: CanvasRenderingContext2D;
    readonly bbox: UPlotBox;
    readonly select: UPlotBox;
    readonly over: HTMLElement;
    readonly width: number;
    readonly height: number;
    readonly cursor: { left?: number | null };
    readonly scales: Record<string, { min: number; max: number }>;
    readonly data: UPlotData;
    readonly hooks: UPlotHooks;
    setData(data: UPlotData): void;
    setSize(size: { width: number; height: number }): void;
    setSelect(box: UPlotBox, fire: boolean): void;
    valToPos(value: number, scale: string, canvas: true): number;
    posToVal(position: number, scale: string): number;
    redraw(rebuildPaths: boolean): void;
    destroy(): void;
  }

  // The times, then a column for each series: null is a gap, undefined goes on with the last value.
  type UPlotData = [number[], ...(number | null | undefined)[][]];

  type UPlotHook = ((u: uPlot) => void)[];

  interface UPlotHooks {
    drawClear?: UPlotHook;
    drawAxes?: UPlotHook;
    draw?: UPlotHook;
    setSelect?: UPlotHook;
    setCursor?: UPlotHook;
  }

  interface UPlotAxis {
    stroke?: string;
    font?: string;
    ticks?: { show: boolean };
    grid?: { show?: boolean; stroke?: string; width?: number };
    show?: boolean;
    space?: number;
    size?: number;
    gap?: number;
    values?: (u: uPlot, splits: number[], axis: number, space: number, step: number) => string[];
    splits?: (u: uPlot) => number[];
  }

  interface UPlotSeries {
    show?: boolean;
    stroke?: string;
    width?: number;
    spanGaps?: boolean;
    points?: { show: boolean };
    paths?: unknown;
  }

  interface UPlotOptions {
    width: number;
    height: number;
    padding: number[];
    legend: { show: boolean };
    cursor: object;
    scales: Record<string, { time?: boolean; range: (u: uPlot, min: number, max: number) => [number, number] }>;
    axes: UPlotAxis[];
    series: UPlotSeries[];
    bands?: { series: [number, number]; fill: string }[];
    hooks: UPlotHooks;
  }
}
