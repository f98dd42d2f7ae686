# make demo | lab | install | test | test-all | colab | bench | readme | stamp      (see CONTRIBUTING.md)
VENV   ?= .venv
PYTHON ?= python3
PROMPT ?= a large red ball and a large blue cube on tan ground at sunset
OUT    ?= demo
BIN    := $(abspath $(VENV))/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
export HF_HUB_OFFLINE ?= 1

.PHONY: help demo lab install dev test lessons others test-all colab bench cpu drift readme stamp
help:
	@sed -n 1p Makefile

# --- use it ---------------------------------------------------------------------------------------
demo: install
	@start=$$(date +%s); $(BIN)/sora-nb generate "$(PROMPT)" \
	    --out "$(abspath $(OUT)).mp4" --out "$(abspath $(OUT)).png" \
	  && echo "$$(( $$(date +%s) - start )) s in all"

lab: install
	$(BIN)/jupyter lab nbs

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

# --- work on it -----------------------------------------------------------------------------------
dev: $(VENV)/.installed-dev
$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

# what continuous integration runs: the lessons on one core, and all else on another
test: dev cpu drift
	@$(MAKE) --no-print-directory -j2 lessons others

lessons others: export OMP_NUM_THREADS = 1
lessons: dev
	PATH=$(BIN):$$PATH $(BIN)/python -m pytest tests/test_lessons.py

others: dev
	PATH=$(BIN):$$PATH $(BIN)/python -m pytest --ignore=tests/test_lessons.py

# a fork's lessons beside what Colab has preinstalled (tests/colab.txt)
COLAB := $(CURDIR)/.venv-colab
colab: dev $(COLAB)/.installed
	PATH=$(BIN):$$PATH $(BIN)/python -m pytest -m slow tests/test_colab.py

$(COLAB)/.installed: tests/colab.txt constraints.txt
	rm -rf $(COLAB) && $(PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q --disable-pip-version-check --no-compile --no-deps \
	    -c constraints.txt -r tests/colab.txt
	@cd / && $(COLAB)/bin/python -c "import torch, matplotlib.pyplot, IPython, anywidget"  # compiled once
	@touch $@

# and the slow rest: every lesson must notice when one of its cells is broken
test-all: test $(COLAB)/.installed
	PATH=$(BIN):$$PATH $(BIN)/python -m pytest -m slow

# speed beside that of diffusers, which lives in an environment of its own: data/results/speed.json
BENCH := $(abspath .venv-bench)
bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m pytest tests/test_bench.py tests/test_bench_peers.py
	$(BENCH)/bin/python tools/bench.py

$(BENCH)/.installed: pyproject.toml constraints.txt
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

cpu: dev
	@$(BIN)/python tools/check_cpu.py

drift: dev
	@PATH=$(BIN):$$PATH $(BIN)/python tools/drift.py

readme: dev
	$(BIN)/python tools/lessons.py
	$(BIN)/python tools/build_readme.py

# after editing user, repo or branch in settings.ini
stamp: dev
	$(BIN)/python tools/stamp.py && PATH=$(BIN):$$PATH nbdev-export
