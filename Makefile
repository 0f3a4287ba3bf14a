# Thin fronts. What they run is printed, and runs by itself too.
.DEFAULT_GOAL := help
PYTHON ?= python3
# With -E, no PYTHONPATH or PYTHONHOME of the shell counts.
PLAYBOOKS := workstation add fleet bundle image report plan verify doctor history rollback kernel health pull cache remove lock
# The names on make's command line; what of the environment counts is for run_playbook.py to say.
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
# Of the targets that run no playbook. Those that do know the variables of playbooks, which run_playbook.py checks.
OTHERS := help tools test-tools test-packages lock-tools test test-oldest test-oldest-all lint unit component contract \
  integration faults fuzz bench slow nightly hosts molecule molecule-ci molecule-slow mutations prove docs site links \
  collection changelog sanity release finding clean
ifneq (,$(or $(filter $(OTHERS),$(MAKECMDGOALS)),$(if $(MAKECMDGOALS),,help)))
ifeq (,$(filter $(PLAYBOOKS),$(MAKECMDGOALS)))
VARIABLES_OF_OTHERS := BUNDLE JOBS KILLS NAME ONLY RELEASE SCENARIO SEED VERSION
UNKNOWN := $(filter-out PYTHON SHELL $(VARIABLES_OF_OTHERS),$(GIVEN))
$(if $(UNKNOWN),$(error make $(MAKECMDGOALS) has no variable $(UNKNOWN). There are $(VARIABLES_OF_OTHERS)))
endif
endif

.PHONY: help
help: ## Show this help
	@$(PYTHON) -E scripts/run_playbook.py --help-make

workstation: ## Install a TensorFlow release on this machine and prove it: make workstation TENSORFLOW=2.8.0
add: ## Add packages to an environment: make add PACKAGES="pandas ipykernel", or REMOVE= to take some out again
fleet: ## Install TensorFlow on all nodes of an inventory, in batches: make fleet INVENTORY=/srv/my_fleet
bundle: ## Fetch all that an inventory needs into a directory: make bundle TENSORFLOW=2.8.0 BUNDLE=/srv/bundle; CHECK=1 checks it
image: ## Pack an environment of this machine for nodes to mount: make image IMAGE=/srv/images, or with ENVIRONMENT=
report: ## Report on all nodes of an inventory, from the records or with FRESH=1 from the nodes; change no node
plan: ## Show what workstation would do and why; change nothing
verify: ## Compare this machine with what was applied, and prove that TensorFlow computes; change nothing
doctor: ## Diagnose this machine: make doctor, or with ENVIRONMENT=, PYTHON_PATH= or LOG=; REPORT=1 for an issue
history: ## Show what was installed, switched, rolled back and removed, when and by whom; change nothing
rollback: ## Switch back to what was in use before the last change, or to the previous build of ENVIRONMENT=
kernel: ## Have Jupyter find an environment; off again with STATE=absent
health: ## Have nodes look at driver and libraries every few minutes; off again with tensorflow_health_state=absent
pull: ## Have nodes pull this repository, signed, and run it by themselves; off again with tensorflow_pull_state=absent
cache: ## Show what the environments take on disk; PRUNE=1 removes cached wheels that no build contains
remove: ## Remove one environment: make remove ENVIRONMENT=tensorflow-2.8.0, or what was applied last
lock: ## Make or refresh the locks of a release

.PHONY: $(PLAYBOOKS)
$(PLAYBOOKS):
	@$(PYTHON) -E scripts/run_playbook.py $@ $(foreach name,$(GIVEN),'$(subst ','\'',$(name))')

# A name that is no target.
.DEFAULT:
	@$(PYTHON) -E scripts/run_playbook.py $@

.PHONY: tools test-tools test-packages lock-tools
tools: ## Install the tools that run the playbooks into .venv
	@$(PYTHON) -E scripts/bootstrap.py $(if $(BUNDLE),--bundle '$(BUNDLE)')

test-tools: ## Install the tools that test and lint into .venv as well
	@$(PYTHON) -E scripts/bootstrap.py --group test

test-packages: test-tools ## Install the packages that tests need, as root with apt; otherwise list the missing ones
	@.venv/bin/python -m tests.needs

lock-tools: tools ## Refresh the locks of the tools in requirements/
	@$(PYTHON) -E scripts/bootstrap.py --lock

.PHONY: test test-oldest test-oldest-all lint unit contract component integration slow nightly
test: lint unit contract component integration ## Lint and test everything, on the newest ansible-core

# Modules and plugins, what is said of them, and the playbooks.
OLDEST = tests/unit/library tests/unit/action_plugins tests/unit/callback_plugins tests/component/callback_plugins \
  tests/contract/test_modules.py tests/contract/test_roles.py tests/integration
test-oldest: test-packages ## Test what depends on ansible-core, on the oldest supported one
	@$(PYTHON) -E scripts/bootstrap.py --core oldest
	.venv-oldest/bin/python -m pytest $(OLDEST) -m "not slow and (not integration or oldest_core)" --cpu 5

test-oldest-all: test-packages ## On the oldest supported ansible-core, test everything that is not slow
	@$(PYTHON) -E scripts/bootstrap.py --core oldest
	.venv-oldest/bin/python -m pytest tests -m "not slow"

# mypy sees library/ and module_utils/ by way of a link: their relative imports need a package above them, and the
# checkout's own folder may have any name.
lint: test-tools ## ansible-lint, yamllint, ruff, mypy, codespell
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/yamllint --strict .
	.venv/bin/codespell .
	.venv/bin/mypy scripts callback_plugins action_plugins
	.venv/bin/mypy --explicit-package-bases tests/hosts
	mkdir -p .cache/mypy && ln -sfn ../.. .cache/mypy/checkout
	cd .cache/mypy && checkout/.venv/bin/mypy --config-file checkout/pyproject.toml \
	  -p checkout.library -p checkout.module_utils
	PATH="$(CURDIR)/.venv/bin:$$PATH" ansible-lint

unit: test-packages ## Tests of single functions and modules, which start no installer and no playbook
	.venv/bin/python -m pytest tests/unit -n 2 --cpu 5

component: test-packages ## Tests of one part with the real uv, pip or ansible-playbook
	.venv/bin/python -m pytest tests/component -m "not slow" -n 2 --dist loadfile --cpu 10

contract: test-tools ## Tests that documentation, specifications, tables and code agree
	.venv/bin/python -m pytest tests/contract --cpu 5

# A file at a time on each core, since the tests of a file share what they built, and the longest files first.
integration: test-packages ## Tests with real installs and playbook runs
	.venv/bin/python -m pytest tests/integration tests/faults -m "not slow" -n 2 --dist loadfile \
	  --no-loadscope-reorder --cpu 20

.PHONY: faults fuzz bench
faults: test-packages ## Kill, fill and cut off what there is, 500 random moments among it; KILLS=20 SEED=7 for others
	KILLS=$(or $(KILLS),500) SEED=$(SEED) .venv/bin/python -m pytest tests/faults -rs --cpu 20 \
	  --ignore-glob 'tests/faults/test_fleet_*hosts.py'

fuzz: test-tools ## Feed each reader of a file or an answer with 2,000 damaged inputs
	READER_EXAMPLES=2000 .venv/bin/python -m pytest tests/contract/test_readers.py --cpu 20

bench: test-tools ## Measure builds, checks and disk next to uv, cp and Ansible's pip, in turn; RELEASE=2.8.0
	.venv/bin/python -m tests.bench.all --release $(or $(RELEASE),2.8.0)

slow: test-packages ## Tests that take minutes or tens of GB each; not in CI
	@.venv/bin/python -m tests.needs --slow
	.venv/bin/python -m pytest tests -m slow

nightly: ## What CI leaves out: all scenarios, slow tests, the oldest core, mutations in turn, the site; takes hours
	$(MAKE) --keep-going ONLY=turn RELEASE=turn molecule molecule-slow slow fuzz test-oldest-all mutations prove site links \
	  sanity

MOLECULE = .venv/bin/python -m tests.hosts.run --jobs $(or $(JOBS),1) $(SCENARIO)
.PHONY: hosts molecule molecule-ci molecule-slow
hosts: test-packages ## Make the images of the test hosts
	.venv/bin/python -m tests.hosts.run --images

molecule: test-packages ## Test the roles on hosts; SCENARIO=cudnn/default for one, JOBS=2 for two at a time
	$(MOLECULE)

molecule-ci: test-packages ## Test the scenarios that CI runs
	$(MOLECULE) --lane ci

molecule-slow: test-packages ## Test the scenarios that take many minutes or GB each
	$(MOLECULE) --lane slow

.PHONY: fleet-test
fleet-test: test-packages ## Test a fleet of ten hosts that ssh reaches, and faults in the middle of its runs: slow
	.venv/bin/python -m pytest tests/faults/test_fleet_hosts.py tests/faults/test_fleet_fetch_hosts.py

.PHONY: mutations
mutations: test-packages ## Break the system roles one task or line at a time, and show that a scenario notices: slow
	.venv/bin/python -m tests.mutations.run $(ONLY)

.PHONY: prove
prove: test-tools ## Install releases from their locks, use them, record that: make prove RELEASE=2.8.0 (or all, stale, turn)
	.venv/bin/python scripts/prove.py $(if $(RELEASE),$(RELEASE),stale)

.PHONY: release
release: test-tools ## Add a release of TensorFlow: rows from its wheels, locks, a proof: make release VERSION=2.22.0
	.venv/bin/python scripts/add_release.py $(if $(VERSION),$(VERSION),--new)

.PHONY: docs
docs: test-tools ## Update the generated parts of the documentation
	.venv/bin/python scripts/make_docs.py

.PHONY: collection changelog sanity
collection: tools ## Build the Galaxy collection into dist/
	@.venv/bin/python scripts/make_collection.py

changelog: ## Move the fragments of changelogs/ into CHANGELOG.md, under the version of collection/galaxy.yml
	@$(PYTHON) -E scripts/bootstrap.py --group collection
	.venv-collection/bin/antsibull-changelog release --version \
	  "$$(sed -n 's/^version: //p' collection/galaxy.yml)"

sanity: test-tools ## Check the collection with ansible-test, antsibull-docs and Galaxy's importer: slow
	@$(PYTHON) -E scripts/bootstrap.py --core oldest
	@$(PYTHON) -E scripts/bootstrap.py --group collection
	.venv/bin/python scripts/check_collection.py --core oldest
	.venv/bin/python scripts/check_collection.py

.PHONY: site links
site: ## Make a site of the pages in .cache/site; fails if a link or an anchor has no target
	@$(PYTHON) -E scripts/bootstrap.py --group site
	$(PYTHON) -E scripts/make_site.py

links: test-tools ## Ask the servers that the pages link to whether what is linked exists
	.venv/bin/python scripts/check_links.py

.PHONY: finding
finding: test-tools ## See a finding of docs/findings.md on this machine: make finding NAME=pins, double, ptx or start
	.venv/bin/python scripts/findings.py $(NAME)

.PHONY: clean
clean: ## Remove the tools and caches of this checkout (no environment of TensorFlow)
	rm -rf .venv .venv-oldest .venv-site .venv-collection .tools .cache .ansible .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
