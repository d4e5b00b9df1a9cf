"""People read what was written: formulas are typeset, marks mean no more than was meant, and nothing vanishes."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.services.rankings import same_text
from annotate.services.rendering.formulas import DEPTH_LIMIT, LENGTH_LIMIT, typeset
from annotate.services.rendering.highlighting import highlight
from annotate.services.rendering.markup import render, render_line
from annotate.templatetags.people_text import is_blank, show_all

CASE = r"""Given \( x + y = 4z \) and \( x \cdot y = 4z^2 \):
\[
(x-y)^2 = (x+y)^2 - 4xy = 0
\]
so $a_1*b_1 + a_2*b_2$ is fine.
\begin{aligned} a &= 1 \\ b &= 2 \end{aligned}
The method is called __init__ here.
"""


class Page(HTMLParser):
    """What of some HTML can be read, and what it is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.read: list[str] = []
        self.hrefs: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.hidden += tag == "annotation"
        for name, value in attrs:
            if name == "href":
                self.hrefs.append(value or "")
            elif name == "data-marker":
                self.read.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag == "annotation"

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.read.append(data)

    @property
    def text(self) -> str:
        return "".join(self.read)


def read(text: str) -> str:
    """`text` as a reader sees it, lines apart."""
    return Page(render(text)).text.strip()


def tags(text: str) -> set[str]:
    return {tag for tag, _ in Page(render(text)).elements}


def test_an_answer_with_formulas_is_typeset_and_no_character_of_it_is_lost():
    html = render(CASE)
    assert html.count("<math") == 5
    assert html.count('<math display="block">') == 2
    assert "as-typed" not in html
    assert "The method is called __init__ here." in html
    for source in [r"x \cdot y = 4z^2", "(x-y)^2 = (x+y)^2 - 4xy = 0", "a_1*b_1 + a_2*b_2"]:
        assert f'<annotation encoding="application/x-tex">{source}</annotation>' in html


@pytest.mark.parametrize(
    "formula",
    [
        "$x$", "$$x$$", r"\(x\)", r"\[x\]", "$$\nx\n\n= 1\n- 2\n$$", r"\begin{equation}x\end{equation}",
        r"\begin{align}x &= 1 \\ y &= 2\end{align}", r"\begin{align*}x\end{align*}", r"\begin{pmatrix}1&2\end{pmatrix}",
        r"\begin{cases} x & \text{if } x > 0 \\ 0 & \text{otherwise}\end{cases}", r"$$a &= b \\ c &= d$$",
        r"\begin{equation}\begin{split}a&=b\\c&=d\end{split}\end{equation}", r"$x = 1 \tag{3}$",
        r"$\sum_{\substack{i<j\\k}} x$", r"$\text{if $x>0$ and $y$}$", "> \\[\n> x\n> \\]", "- $$x$$", "设$x$为",
        r"$$\int_0^\infty e^{-x^2}\,dx$$", r"$\color{red}x$", r"$P(A \mid B)$", "the $n$th and $k$-th",
    ],
)  # fmt: skip
def test_a_formula_is_typeset_in_every_notation(formula: str):
    html = render(formula)
    assert "<math" in html
    assert "as-typed" not in html
    assert " style=" not in html


@pytest.mark.parametrize(
    "typed",
    [
        r"$\unknown_{a_b}*c*d$", r"\(\href{javascript:alert(1)}{x}\)", r"\[ \class{a}{b}_1 \]", r"$x % y$",
        r"$\phantom{hidden}$", r"$\newcommand{\a}{\a\a}\a$", r"$$\frac{1$$", r"$x^y^z$", r"$\def\x{1}\x$",
        r"\begin{align} x \\ \end{matrix} _a_ \end{align}", r"$\label{a}x$",
        "$" + "{" * 1_000 + "_a_" + "}" * 1_000 + "$", r"\(" + "x_1*y_1 " * (LENGTH_LIMIT // 8 + 1) + r"\)",
    ],
)  # fmt: skip
def test_what_cannot_be_typeset_stays_as_it_was_typed(typed: str):
    assert read(typed) == typed
    assert not tags(typed) & {"math", "em", "strong", "a"}


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10.", "US$5 and A$6", "$5 for this and 6$ for that", "$HOME/bin:$PATH", "${HOME}/x:${PATH}",
        "$1,$2 and $3", "**$5** and **6$**", "`$x$`", "$ x $", r"\$x\$ is escaped", "a $", "$$ is much money $$",
        "$(ls)$(cd)", r"\\(x\\)", "```\n$x$\n```", r"\[", r"\begin{itemize} \item x \end{itemize}",
    ],
)  # fmt: skip
def test_money_variables_and_code_are_no_formulas(text: str):
    assert "<math" not in render(text)


@pytest.mark.parametrize(
    "text",
    [
        "__init__ is called", "call __init__ and __main__ here", "_x_", "snake_case_name", "2*3*4", "(a)*b + c*(d)",
        "f(*args, **kwargs) and g(*more)", "a~~b~~c", "**bold**text", r"a\,b\;c \\ d \[ e \& f", "C:\\dir\\",
        "&lt;b&gt; &amp; &nbsp;", "<b>x</b> <!-- hidden --> <br>", "[1]: http://example.org", "[a][1]",
        '[a](http://example.org "title")', "[](http://example.org)", "[a]()", "[a](/account/)", "[a](javascript:x)",
        "<std::vector>", "#hashtag", ">>> print(1)", "x\n=\n7", "x\n===", "  indented\n    more  and  more",
        "a | b\n--|--\n1 | 2 | 3", "“quotes” and \"quotes\" -- (c) ...", "http://example.org/_a_/**b**c",
    ],
)  # fmt: skip
def test_what_only_looks_like_markdown_is_read_as_it_was_typed(text: str):
    assert read(text) == text.strip() or Page(render(text)).text.rstrip("\n") == text
    assert not tags(text) & {"em", "strong", "s", "a", "table", "blockquote", "h1"}
    assert "as-typed" not in render(text)  # by the rules, and not because something would have been missing


@pytest.mark.parametrize(
    "text",
    [
        "#",
        "-",
        "+",
        "*",
        ">",
        "***",
        "1.",
        "```",
        "- \n- ",
        "###### ",
        "1.\n2.",
        "They are:\n\n+\n-\n*",
        "b\n#\nc",
        "a\n\n>\n\nd",
    ],
)
def test_marks_that_stand_alone_are_read_as_they_were_typed(text: str):
    assert Page(render(text)).text.split() == text.split()
    assert not re.search("<(li|h[1-6]|blockquote|hr)>", render(text))


@pytest.mark.parametrize(
    ("text", "tag"), [("-\n  a", "li"), ("> \n> b", "blockquote"), ("a\n***", "hr"), ("- a\n- b", "li")]
)
def test_blocks_that_say_something_are_blocks(text: str, tag: str):
    assert f"<{tag}>" in render(text)


def test_a_sentence_that_begins_with_a_year_is_no_list():
    assert render("1986. A great year.") == "<p>1986. A great year.</p>\n"


def test_a_line_of_a_list_has_no_blank_lines():
    assert render_line("a\n\n \nb\n", 600) == "a<br>\nb"


@pytest.mark.parametrize(
    "formula",
    [r"\raisebox{-99pt}{x}", r"\hspace{99em}x", r"a\kern-9cm b", r"a\\[40em]b", r"\vphantom{x}y", r"\mkern 999mu x"],
)
def test_a_formula_that_would_reach_out_of_its_place_stays_as_it_was_typed(formula: str):
    assert typeset(formula, is_display=True) is None


@pytest.mark.parametrize("formula", [r"a\hspace{1cm}b", r"a\kern2pt b", r"D\mkern-11mu/", r"a\\[2pt]b"])
def test_small_spaces_are_typeset(formula: str):
    assert typeset(formula, is_display=True)


@pytest.mark.parametrize("colour", ["white", "black", "blue", "yellow", "red", "cyan"])
def test_colours_can_be_read_on_light_and_on_dark_pages(colour: str):
    found = re.search(r'mathcolor="#(..)(..)(..)"', render(rf"$\color{{{colour}}}{{x}}$"))
    assert found
    parts = [int(part, 16) / 255 for part in found.groups()]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert 1.05 / (luminance + 0.05) > 3 and (luminance + 0.05) / 0.06 > 3


def test_markdown_that_was_meant_is_rendered():
    assert tags("**bold** and *thin*, _very thin_, ~~gone~~, 中文**重点**内容") == {"p", "strong", "em", "s"}
    assert 'href="http://example.org/a_(b)"' in render("[a](http://example.org/a_(b))")
    assert Page(render("![a](http://example.org/)")).hrefs == ["http://example.org/"]
    assert read(r"\*not thin\*, \_, \#, \$5") == "*not thin*, _, #, $5"
    assert tags("> a\n> > b") == {"blockquote", "p"}


def test_lists_keep_the_numbers_that_they_were_given():
    items = Page(render("1) a\n2) b\n\n0. c\n7. d\n07. e")).elements
    markers = [attributes["data-marker"] for tag, attributes in items if tag == "li"]
    assert markers == ["1)", "2)", "0.", "7.", "07."]


def test_tables_and_code_scroll_in_boxes_that_the_keyboard_reaches():
    html = render("|a|b|\n|:-|-:|\n|1|2|\n\n```python\nprint(1)\n```")
    boxes = [attrs for _, attrs in Page(html).elements if attrs.get("tabindex") == "0"]
    assert [(box["role"], box["aria-label"]) for box in boxes] == [("group", "Table"), ("group", "Code")]
    assert '<td class="align-right">2</td>' in html
    assert boxes[1]["dir"] == "ltr"
    assert '<span class="c-name">print</span>' in html


@pytest.mark.parametrize("language", ["", "nosuchlanguage", "python"])
@pytest.mark.parametrize("code", ["if x < 1: # é\n\treturn '&lt;'\n", "\n\n x", "a\n" * 20_000, '"""' * 500])
def test_highlighted_code_is_the_code(code: str, language: str):
    assert Page(f"<pre>{highlight(code, language)}</pre>").text == code


NASTY = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>", "</annotation><script>alert(1)</script>",
    "</math><img src=x onerror=alert(1)>", "<annotation-xml encoding=text/html>",
    "<mglyph><style><img src=x onerror=alert(1)>",
    "<math><mtext><table><mglyph><style><!--</style><img src=x onerror=alert(1)>", "]]><script>",
    "&lt;script&gt;", '" onmouseover="alert(1)', "' style='color:red", "--><script>", "</textarea><script>",
    "</code></pre><script>alert(1)</script>", r"\href{javascript:alert(1)}{x}", r"\style{color:red}{x}",
    r"\class{x}{y}", r"\unicode{x3c}", r"\textcolor{red\" onload=alert(1)}{x}",
    r"\color{red;background:url(//x)}x", "data:text/html,x",
]  # fmt: skip
FRAMES = [
    "%s", "$%s$", "$$%s$$", r"\(\text{%s}\)", r"\[\mathrm{%s}\]", r"$x_{%s}$", "```%s\nx\n```",
    "```html\n%s\n```", "`%s`", "[%s](http://x)", "[x](%s)", "<%s>", "|%s|\n|-|\n|%s|",
    r"\begin{aligned}\text{%s}\end{aligned}", "1. %s", "![%s](%s)", r"$\operatorname{%s}$",
    r"$\begin{array}{%s}x\end{array}$", r"$\tag{%s}$",
]  # fmt: skip
CLASSES = ("as-typed", "formula", "spaces", "code", "table-scroll", "align-", "c-", "m-", "math-core-", "menclose-")


def assert_harmless(html: str) -> None:
    for tag, attributes in Page(html).elements:
        assert tag not in {"script", "img", "svg", "style", "iframe", "annotation-xml", "mglyph", "maction", "input"}
        for name, value in attributes.items():
            assert name not in {"style", "id", "srcdoc", "src", "xlink:href"}
            assert not name.startswith("on")
            if name == "href":
                assert tag == "a"
                assert (value or "").lower().startswith(("http://", "https://", "mailto:"))
            if name == "class":
                assert all(each.startswith(CLASSES) for each in (value or "").split())


@pytest.mark.parametrize("nasty", NASTY)
def test_no_markup_comes_through(nasty: str):
    for frame in FRAMES:
        text = frame.replace("%s", nasty)
        assert_harmless(render(text))
        assert_harmless(render_line(text, 300))


PIECES = st.sampled_from(
    [
    "*", "**", "_", "__", "`", "```", "~~", "#", "> ", "- ", "1. ", "2) ", "|", "\n", "\n\n", "    ", "[", "](",
    ")", "<", ">", "![", "---", "|-|-|", "&amp;", ":", "http://", "://", "==", "\t", "!", "+", "=", '"', "(",
    "'",
]
)  # fmt: skip
WORDS = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FFF), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | WORDS, max_size=40).map("".join))
def test_every_letter_and_digit_that_was_written_can_be_read(text: str):
    page = Page(render(text))
    shown = Counter(page.text + "".join(unquote(href) for href in page.hrefs))
    written = Counter(text)
    assert {each: n for each, n in written.items() if each.isalnum() and n > shown[each]} == {}


def test_where_the_parser_gives_up_the_text_is_shown_as_it_is():
    deep = "> " * 150 + "deep"  # it reads a hundred levels, and drops the rest
    assert read(deep) == deep
    assert "deep" in Page(render_line("[" * 30 + "deep", 100)).text


MATHS = st.sampled_from(
    [
    "$", "$$", r"\(", r"\)", r"\[", r"\]", r"\begin{aligned}", r"\end{aligned}", "&", r"\\", "{", "}", "^", "_",
    r"\frac", r"\sqrt", r"\text", r"\left", r"\right", "(", ")", "|", "x", "1", " ", "\n", r"\color", "{red}",
    "<script>", '"', "'", r"\begin{array}", "{c|c}", r"\end{array}", r"\hline", r"\operatorname", r"\not",
    r"\middle", r"\over", "%", "#", "~",
]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(MATHS | WORDS, max_size=40).map("".join))
def test_whatever_is_written_between_dollars_the_page_stays_harmless(text: str):
    for whole in (text, f"${text}$", f"\\[{text}\\]"):
        assert_harmless(render(whole))
        assert_harmless(render_line(whole, 100))


@pytest.mark.parametrize("opener", ["{", r"\sqrt{", r"\left(", r"\frac1{", r"\begin{matrix}", r"\sqrt", r"\not", "x^{"])
@pytest.mark.parametrize("times", [DEPTH_LIMIT + 1, 500, 10_000])
def test_what_nests_too_deeply_is_not_handed_to_the_converter(opener: str, times: int):
    closer = {"{": "}", "(": ")"}.get(opener[-1], r"\end{matrix}" if "begin" in opener else "")
    closer = r"\right)" if "left" in opener else closer
    assert typeset(opener * times + " x" + closer * times, is_display=True) is None


def test_what_may_nest_is_typeset_on_a_small_stack():
    small = threading.stack_size(512 * 1024)
    try:
        deep = [r"\frac{1}{" * (DEPTH_LIMIT // 2) + "}" * (DEPTH_LIMIT // 2), r"\sqrt" * DEPTH_LIMIT + " x"]
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.extend(bool(typeset(each, is_display=True)) for each in deep))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(small)
    assert done == [True, True]


@pytest.mark.parametrize(
    "text",
    [
        "$" + "{" * 10_000 + "}" * 10_000 + "$", "$a " * 33_000, r"\(" * 50_000, r"\begin{align}" * 7_600,
        "$$\na\n" * 20_000,
        "\\[\na\n" * 16_000, "*a " * 30_000, "_a" * 50_000, "```python\n" + "('" * 9_000, r"\$" * 50_000, ">" * 50_000,
        "$" + "(x" * 30 + "$",
        "$" + r"\langle x[" * 15 + "$", "[" * 20_000, "|" * 500 + "\n" + "|-" * 250 + "|\n" + ("|" * 500 + "\n") * 100,
    ],
    ids=lambda text: text[:8].replace("\n", " "),
)  # fmt: skip
def test_no_text_holds_a_page_for_long(text: str):
    begin = time.process_time()
    render(text)
    assert time.process_time() - begin < 5  # a quiet core needs a fifth of that


def test_nine_long_answers_are_rendered_in_no_time():
    sentence = "The **policy** learns `x` from $x^2$ and from people, _so it is said_ in the book. "
    answers = [f"{n}. " + (sentence * 12 + "\n\n") * 10 for n in range(9)]
    begin = time.process_time()
    for answer in answers:
        render(answer)
    assert time.process_time() - begin < 1  # a quiet core needs a tenth of that
    begin = time.process_time()
    for answer in answers:
        render(answer)
    assert time.process_time() - begin < 0.05


def test_a_line_of_a_list_takes_no_focus_and_leads_nowhere():
    html = render_line("See [this](http://example.org), $x_1$ and $$y$$:\n```python\nx\n```\n| a |", 300)
    assert not {tag for tag, _ in Page(html).elements} & {"a", "div", "p", "pre", "table"}
    assert html.count("<math") == 2
    assert "tabindex" not in html
    assert 'display="block"' not in html
    assert "this" in html
    assert Page(render_line("x" * 50, 10)).text == "x" * 9 + "…"


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u2060", "\u00a0"])
def test_what_shows_nothing_is_blank(text: str):
    assert is_blank(text)
    assert not is_blank(text + "x")


def test_a_button_counts_words_or_characters_where_there_are_hardly_words():
    assert show_all("one two three") == "Show all 3 words"
    assert show_all("x" * 470) == "Show all 470 characters"
    assert show_all("这是一个很长的句子" * 20) == "Show all 180 characters"


def test_equal_answers_name_each_other():
    assert same_text({"A": "x", "B": "y", "C": "x", "D": "x"}) == {"A": "C, D", "B": "", "C": "A, D", "D": "A, C"}
