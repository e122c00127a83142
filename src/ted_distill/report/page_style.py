"""The style sheet of `report.html`: for a phone, a desk and paper."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1c1c1c; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, ul { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
.lead { font-size: 1.05rem; }
.verdict { list-style: none; padding: .7rem 1rem; background: #eef4f8; border-left: 4px solid #0072b2; }
.verdict li + li { margin-top: .4rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; border-bottom: 2px solid #888; vertical-align: bottom; }
th.n, td.n { text-align: right; padding: .3rem 0 .3rem 1.1rem; white-space: nowrap; }
th.n { white-space: normal; }
th:first-child, td:first-child { min-width: 6.5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.2rem 1.6rem;
  margin: 1rem 0; align-items: end; }
.figures > figure:only-child { max-width: 34rem; }
.figures:has(> :only-child) { display: block; }
figure { margin: 0; max-width: 30rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: "DejaVu Sans", Verdana, sans-serif; }
figcaption { font-size: .85rem; color: #555; margin-top: .2rem; overflow-wrap: anywhere; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: #333; }
article { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); gap: .3rem 1.6rem; padding: .7rem 0;
  border-bottom: 1px solid #e4e4e4; }
article p { margin: 0 0 .2rem; white-space: pre-line; }
article .number, .name { font-size: .8rem; color: #666; }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .1rem .7rem; margin: 0; font-size: .92rem;
  align-content: start; }
dt { color: #666; }
dd { margin: 0; overflow-wrap: anywhere; }
dd.right { font-weight: 600; }
dd.right::after { content: " \\2713"; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; white-space: pre-wrap;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  article { grid-template-columns: minmax(0, 1fr); }
  th, td { padding-right: .6rem; }
  th.n, td.n { padding-left: .7rem; }
}
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1.4rem; }
  .wide { overflow: visible; }
  table { font-size: .85rem; }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  figure, article, tr { break-inside: avoid; }
  details > summary { list-style: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
