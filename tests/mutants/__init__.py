"""Small changes to what decides, one at a time: do the fast tests notice?"""
