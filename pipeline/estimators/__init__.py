"""Arrays of maps → scikit-learn classifiers, trained as stage two trains heads."""
