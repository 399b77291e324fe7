"""The page's own style sheet: what Streamlit's theme cannot do. One for both themes.

Lines and muted words are made of the text's colour; the few colours that mean something have a
darker twin for the light theme, so that words in them keep a contrast of 4.5 : 1.
"""

from __future__ import annotations

CSS = """
<style>
.stApp {
  --pw-good: light-dark(#0B7A55, #2EBD85); --pw-bad: light-dark(#C8283F, #F6465D);
  --pw-warn: light-dark(#9A5B00, #F5A524); --pw-y: light-dark(#0B62C4, #4C9AFF);
  --pw-x: light-dark(#B26A00, #F5A524); --pw-z: light-dark(#7B3FA0, #C792EA);
  --pw-muted: light-dark(#5A6472, #8B949E); --pw-line: light-dark(#D5DAE0, #30363D);
}
.stMainBlockContainer, .block-container { padding: 1.1rem 1.6rem 0.5rem !important; }
div[data-testid="stSidebarHeader"] { height: 2.2rem; padding-bottom: 0; margin-bottom: 0; }
div[data-testid="stSidebarUserContent"] { padding-top: 0.4rem; }
header[data-testid="stHeader"] { height: 0; min-height: 0; background: transparent; }
div[data-testid="stToolbar"] { top: .55rem; }
.st-key-fetch-early, [class*="st-key-patch-"] { display: none; }
.pw { font-variant-numeric: tabular-nums; }
.pw-head { display: flex; align-items: center; gap: .75rem; flex-wrap: wrap; min-height: 2rem; padding-right: 2.5rem; }
.pw-head h1 { font-size: 1.35rem; font-weight: 600; margin: 0; padding: 0; white-space: nowrap; }
.pw-chip { border-radius: 999px; padding: .12rem .7rem; font-size: .82rem; font-weight: 600; white-space: nowrap; border: 1px solid transparent; }
.pw-warn { background: #F5A524; color: #14171c; }
.pw-real { border-color: var(--pw-good); color: var(--pw-good); }
.pw-info { border-color: var(--pw-y); color: var(--pw-y); }
.pw-bad { background: #F6465D; color: #14171c; }
.pw-still { border-color: var(--pw-warn); color: var(--pw-warn); }
.pw-quiet { border-color: var(--pw-muted); color: inherit; }
.pw-facts { color: var(--pw-muted); font-size: .84rem; display: flex; gap: 1rem; flex-wrap: wrap; }
.pw-cards { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: .6rem; margin-top: .55rem; }
.pw-card { border: 1px solid var(--pw-line); border-radius: 6px; padding: .5rem .7rem .45rem; min-height: 5.1rem; overflow: hidden; }
.pw-card .k { color: var(--pw-muted); font-size: .8rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.pw-card .v { font-size: 1.22rem; line-height: 1.75rem; white-space: nowrap; }
.pw-card .s { font-size: .8rem; color: var(--pw-muted); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.pw .good { color: var(--pw-good) !important; } .pw .bad { color: var(--pw-bad) !important; } .pw .warn { color: var(--pw-warn) !important; }
.pw-y { border-top: 2px solid var(--pw-y); } .pw-x { border-top: 2px solid var(--pw-x); } .pw-z { border-top: 2px solid var(--pw-z); }
.pw-cards > :is(.pw-y, .pw-x, .pw-z) { padding-top: calc(.5rem - 1px); }
.pw-table { width: 100%; border-collapse: collapse; font-size: .84rem; }
.pw-table th { color: var(--pw-muted); font-weight: 400; text-align: left; }
.pw-table th, .pw-table td { padding: .3rem .5rem; border-bottom: 1px solid var(--pw-line); vertical-align: top; }
.pw-table th, .pw-table .n { white-space: nowrap; }
.pw-table .n { text-align: right; }
.pw-dense th, .pw-dense td { padding: .13rem .5rem; white-space: nowrap; }
@media (max-width: 1400px) { .st-key-minutes .pw-table { font-size: .78rem; } .st-key-minutes .pw-table th, .st-key-minutes .pw-table td { padding: .13rem .25rem; } }
.pw-table .wrap { white-space: normal; } .pw-table .y { color: var(--pw-y); } .pw-table .x { color: var(--pw-x); } .pw-table .quiet { color: var(--pw-muted); }
div:has(> .st-key-minutes), .st-key-minutes { height: max(300px, calc(100vh - 43rem)) !important; }
.st-key-minutes .pw-table thead th { position: sticky; top: 0; background: light-dark(#FFFFFF, #0E1117); box-shadow: 0 1px var(--pw-line); }
.pw-rule { font-size: .86rem; overflow-wrap: anywhere; padding: .15rem 0; }
.pw-rule > div:first-child { display: flex; flex-wrap: wrap; gap: .1rem .75rem; }
.pw-rule .quiet { color: var(--pw-muted); } .pw-rule .pw-facts { gap: .1rem .9rem; font-size: .8rem; }
.pw-preview { font-size: .88rem; font-weight: 600; margin: 0; }
[class*="st-key-rule-row-"], [class*="st-key-event-row-"], [class*="st-key-ready-"] { border-bottom: 1px solid var(--pw-line); padding-bottom: .25rem; }
.pw-tell { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .86rem; padding: .3rem 0; }
.pw-tell span { color: var(--pw-muted); } .pw-tell-why { color: var(--pw-warn) !important; }
.st-key-undo-line, .st-key-picked-line { padding: .35rem .75rem !important; }
.pw-table td { overflow-wrap: anywhere; } .pw:has(> .pw-table) { overflow-x: auto; }
.pw-title { font-size: .95rem; font-weight: 600; margin: 0 0 .3rem; }
.pw-q { display: inline-block; width: 1.05em; line-height: 1.05em; border: 1px solid var(--pw-line); border-radius: 50%; font-size: .72em; text-align: center; color: var(--pw-muted) !important; text-decoration: none !important; }
.pw-q:hover, .pw-q:focus { border-color: var(--pw-y); color: var(--pw-y) !important; }
.pw-basis { font-size: .9rem; margin: .5rem 0 0; }
.pw .v.quiet { color: var(--pw-muted); }
.pw-note { color: var(--pw-muted); font-size: .8rem; margin: .35rem 0 0; }
@media (max-width: 1250px) { .pw-cards { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
</style>
"""  # noqa: E501
